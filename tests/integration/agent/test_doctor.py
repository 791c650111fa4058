"""What the doctor sees: real sockets, real files, and programs of Android that say what a test wants."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.agent.address import Address
from retire_cluster.agent.config import AgentConfig
from retire_cluster.agent.doctor.facts import Facts
from retire_cluster.agent.doctor.look import look
from retire_cluster.agent.host import Host
from retire_cluster.agent.identity import Identity, IdentityStore
from retire_cluster.agent.keeping.places import Place
from retire_cluster.agent.life import Device
from retire_cluster.agent.outbox import Outbox
from retire_cluster.agent.repin import is_known
from tests.integration.agent.conftest import Certificate
from tests.integration.agent.fake_gateway import gateway, run
from tests.integration.agent.harness import settings


def device(directory: Path, host: Host | None = None) -> Device:
    place = Place(directory, directory, host or Host(environ={"PATH": str(directory / "bin")}))
    return Device(directory, ["worker"], place, print)


async def seen(directory: Path, *ports: int, host: Host | None = None, **changes: Any) -> Facts:
    return await look(device(directory, host), settings(directory, *ports, **changes), None)


def program(directory: Path, name: str, says: str) -> None:
    (directory / "bin").mkdir(exist_ok=True)
    (directory / "bin" / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (directory / "bin" / name).chmod(0o755)


def joined(directory: Path, **identity: Any) -> None:
    (directory / "agent").mkdir()
    IdentityStore(directory / "agent").save(Identity("nuc", secret="rcd_x", **identity))


def test_a_clear_way_tells_the_gateways_clock(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            (found,) = (await seen(tmp_path, server.port)).gateways
            assert found.is_clear
            assert found.clock_ahead_s is not None
            assert abs(found.clock_ahead_s) <= found.clock_within_s
            assert server.received == [], "nothing is said to it"

    run(scenario)


def test_the_certificate_is_held_against_the_pin_the_device_knows(
    tmp_path: Path, certificate: Certificate
) -> None:
    async def scenario() -> None:
        joined(tmp_path, pin="0" * 64)
        async with gateway(certificate.context) as server:
            (found,) = (await seen(tmp_path, server.port, token=None)).gateways
            assert (found.is_clear, found.stopped_at) == (False, "gateway")
            assert "is not the one" in found.words
            IdentityStore(tmp_path / "agent").save(Identity("nuc", secret="rcd_x", pin=certificate.pin))
            (found,) = (await seen(tmp_path, server.port, token=None)).gateways
            assert found.is_clear
            assert found.clock_ahead_s is not None

    run(scenario)


@pytest.mark.parametrize("tls", [True, False])
def test_a_gateway_tells_whether_it_still_knows_the_device(
    tmp_path: Path, certificate: Certificate, tls: bool
) -> None:
    async def scenario() -> None:
        joined(tmp_path, pin=certificate.pin if tls else None, plain=not tls)
        async with gateway(certificate.context if tls else None) as server:

            async def told(**changes: Any) -> bool | None:
                (found,) = (await seen(tmp_path, server.port, token=None, **changes)).gateways
                return found.knows_device

            assert await told() is None, "an older one does not tell"
            server.proves_as = certificate.pin if tls else ""
            assert await told() is False
            server.known["nuc"] = "another"
            assert await told() is False
            server.known["nuc"] = "rcd_x"
            assert await told() is True
            assert server.received == [], "nothing is said to it"

    run(scenario)


def test_behind_a_proxy_that_ends_tls_only_a_proof_that_holds_counts(
    tmp_path: Path, certificate: Certificate
) -> None:
    async def scenario() -> None:
        async with gateway(certificate.context) as server:
            address = Address("127.0.0.1", server.port)

            async def told() -> bool | None:
                return await is_known(address, "nuc", "rcd_x", 5.0, tls=True, own_certificate=False)

            server.proves_as = "0" * 64
            server.known["nuc"] = "rcd_x"
            assert await told() is None
            server.proves_as = ""
            assert await told() is True
            server.known.clear()
            assert await told() is None

    run(scenario)


def test_each_gateway_is_looked_at(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            await server.stop()
            join = (Address("no-such-host.invalid"), Address("127.0.0.1", server.port))
            facts = await seen(tmp_path, join=join)
            assert [found.stopped_at for found in facts.gateways] == ["name", "port"]
            await server.start()

    run(scenario)


def see(directory: Path, host: Host | None = None, **changes: Any) -> Facts:
    """With no gateway to look at."""
    return asyncio.run(seen(directory, host=host, **changes))


def test_who_uses_the_directory_and_whether_it_takes_files(tmp_path: Path) -> None:
    facts = see(tmp_path)
    assert (facts.agent, facts.has_joined, facts.unwritable) == (None, False, None)
    assert facts.free_mb is not None
    assert facts.open_files is not None
    joined(tmp_path)
    used = Outbox(tmp_path / "agent")
    facts = see(tmp_path)
    used.close()
    assert (facts.agent, facts.has_joined) == (os.getpid(), True)
    assert see(Path("/proc/self/nothing")).unwritable is not None


def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    file = tmp_path / "words.py"
    file.write_text("import no_such_library\n")
    problem = see(tmp_path, handlers=(str(file),)).handlers_problem
    assert problem is not None
    assert "no_such_library" in problem
    file.write_text(
        "from retire_cluster.agent import handler\n\n\n@handler('count')\ndef count(payload, ctx):\n    return 1\n"
    )
    assert see(tmp_path, handlers=(str(file),)).handlers_problem is None


def test_a_limit_in_force_is_told(tmp_path: Path) -> None:
    supply = tmp_path / "sys/class/power_supply/BAT0"
    supply.mkdir(parents=True)
    for name, text in {"type": "Battery", "status": "Discharging", "capacity": "12"}.items():
        (supply / name).write_text(text)
    host = Host(root=tmp_path, platform="linux", environ={}, has_android_api=False)
    pause = see(tmp_path, host, pause_on_battery=20).pause
    assert pause is not None
    assert "battery at 12 %" in pause
    assert see(tmp_path, host, pause_on_battery=10).pause is None


def test_android_is_asked_what_it_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    host = Host(environ={"TERMUX_VERSION": "0.118", "PATH": str(tmp_path / "bin")})
    program(tmp_path, "getprop", "34")
    facts = see(tmp_path, host)
    assert facts.termux
    assert (facts.android_sdk, facts.battery_exempt, facts.phantom_killer) == (34, None, None)
    assert (facts.wake_lock_tool, facts.termux_api) == (False, False)

    program(tmp_path, "cmd", "system,com.termux,10123")
    program(tmp_path, "settings", "false")
    program(tmp_path, "termux-wake-lock", "")
    facts = see(tmp_path, host)
    assert (facts.battery_exempt, facts.phantom_killer, facts.wake_lock_tool) == (True, False, True)
    program(tmp_path, "settings", "null")
    program(tmp_path, "cmd", "user,com.other,1")
    facts = see(tmp_path, host)
    assert (facts.battery_exempt, facts.phantom_killer) == (False, None)


def test_a_keeper_that_does_not_work_is_told(tmp_path: Path) -> None:
    program(tmp_path, "loginctl", "no")
    (tmp_path / "bin" / "systemctl").write_text("#!/bin/sh\necho failed\nexit 3\n")
    (tmp_path / "bin" / "systemctl").chmod(0o755)
    here = device(tmp_path)
    here.place.unit.parent.mkdir(parents=True)
    here.place.unit.touch()
    (keeper,) = see(tmp_path).keepers
    assert (keeper.kind, keeper.lingers) == ("systemd", False)
    assert "failed" in (keeper.trouble or "")


def test_without_settings_the_rest_is_looked_at(tmp_path: Path) -> None:
    none: AgentConfig | None = None
    facts = asyncio.run(look(device(tmp_path), none, "--join is missing"))
    assert facts.settings_problem == "--join is missing"
    assert facts.gateways == ()
    assert facts.data_dir == str(tmp_path)
