import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.agent.errors import ExitCode
from retire_cluster.agent.identity import Identity, IdentityStore
from retire_cluster.protocol.messages import Goodbye, Register
from retire_cluster.protocol.tasktypes import BUILTIN_TYPES
from tests.integration.agent.fake_gateway import SECRET, gateway, run, until
from tests.integration.agent.harness import agent


def stored(directory: Path) -> dict[str, str]:
    content: dict[str, str] = json.loads((directory / "agent" / "agent.json").read_text())
    return content


def test_it_joins_by_token_once_and_by_its_secret_from_then_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.token = "a-token"
            async with agent(tmp_path, server):
                first = await server.joined()
                assert (first.device_id, first.join_token, first.secret) == ("nuc", "a-token", None)
                assert first.slots == 4
                assert first.task_types == BUILTIN_TYPES
                assert first.capabilities.cpu_count
                await until(lambda: stored(tmp_path)["secret"] == SECRET, "a stored secret")
                await server.restart()
                again = await server.joined(2)
                assert (again.join_token, again.secret) == (None, SECRET)
                assert again.run_id == first.run_id
            async with agent(tmp_path, server, token=None):
                assert (await server.joined(3)).secret == SECRET

    run(scenario)


def test_a_secret_is_stored_even_if_the_agent_is_stopped_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saving, released = IdentityStore.save, threading.Event(), threading.Event()

    def slow(store: IdentityStore, identity: Identity) -> None:
        if identity.secret is not None:
            saving.set()
            released.wait(10)
        save(store, identity)

    monkeypatch.setattr(IdentityStore, "save", slow)

    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server) as stopped:
            await until(saving.is_set, "the secret being stored")
            stopping = asyncio.create_task(stopped.stop())
            await server.next(Goodbye)
            released.set()
            await stopping
            assert stored(tmp_path)["secret"] == SECRET

    run(scenario)


def test_it_joins_a_gateway_that_starts_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        async with gateway() as server:
            await server.stop()
            async with agent(tmp_path, server):
                await until(lambda: "connection refused" in caplog.text, "a line that says why it waits")
                await server.start()
                await server.joined()
                await until(lambda: "joined as nuc at 127.0.0.1" in caplog.text, "a line that says it joined")

    run(scenario)


def test_a_local_agent_waits_for_the_token_its_gateway_will_write(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        async with gateway() as server:
            server.token = "written"
            async with agent(tmp_path, server, token=None):
                await until(lambda: "no join token yet" in caplog.text, "a line that says what is missing")
                (tmp_path / "join-token").write_text("written\n")
                assert (await server.joined()).join_token == "written"

    run(scenario)


def test_it_comes_back_after_being_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            server.known.clear()
            await server.restart()
            await until(lambda: server.known, "a new registration")
            tries = server.all(Register)
            assert (tries[-2].secret, tries[-2].join_token) == (SECRET, None)
            assert (tries[-1].secret, tries[-1].join_token) == (None, "a-token")

    run(scenario)


def test_forgotten_without_a_token_it_ends_and_says_how_to_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            async with agent(tmp_path, server):
                await server.joined()
            server.known.clear()
            async with agent(tmp_path, server, token=None) as forgotten:
                ending = await forgotten.refusal()
            assert ending.code is ExitCode.REFUSED
            assert "--token" in ending.message
            assert stored(tmp_path)["secret"] is None

    run(scenario)


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        *(("bad_token", 3), ("bad_secret", 3), ("revoked", 4), ("device_id_taken", 5), ("too_old", 6)),
        ("cloned", 7),
    ],
)
def test_a_final_refusal_ends_it_with_a_code_of_its_own(tmp_path: Path, code: str, exit_code: int) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.refuse = Goodbye(code=code, reason="so it is")  # type: ignore[arg-type]
            async with agent(tmp_path, server) as refused:
                ending = await refused.refusal()
            assert ending.code == exit_code
            assert "so it is" in ending.message
            assert len(server.all(Register)) == 1

    run(scenario)


def test_revoked_while_working_it_forgets_its_secret_but_not_its_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            async with agent(tmp_path, server) as revoked:
                await server.joined()
                await server.send(Goodbye(code="revoked"))
                assert (await revoked.refusal()).code is ExitCode.REVOKED
            assert stored(tmp_path)["secret"] is None
            async with agent(tmp_path, server, rejoin=True):
                again = await server.joined(2)
            assert (again.device_id, again.rejoin, again.join_token) == ("nuc", True, "a-token")

    run(scenario)


def test_removed_while_it_was_off_it_rejoins_in_one_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            async with agent(tmp_path, server):
                await server.joined()
            server.removed.add("nuc")
            async with agent(tmp_path, server, rejoin=True) as back:
                last = await server.next(Register, 3)
                assert (last.device_id, last.rejoin, last.join_token) == ("nuc", True, "a-token")
                await until(lambda: len(server.connections) == 2, "the device to be back")
                await server.send(Goodbye(code="revoked"))
                assert (await back.refusal()).code is ExitCode.REVOKED, (
                    "removed while it worked, it stays away"
                )

    run(scenario)


@pytest.mark.parametrize("code", ["full", "unavailable", "stopping", "protocol_error", "replaced"])
def test_a_passing_refusal_is_tried_again(tmp_path: Path, code: str) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.refuse = Goodbye(code=code)  # type: ignore[arg-type]
            loop = asyncio.get_running_loop()
            async with agent(tmp_path, server):
                began = loop.time()
                await server.next(Register, 2)
                if code == "replaced":
                    assert loop.time() - began >= 0.2
                server.refuse = None
                await until(lambda: server.connections, "an accepted connection")

    run(scenario)


def test_it_tries_its_gateways_in_turn(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as away, gateway() as server:
            await away.stop()
            async with agent(tmp_path, away, server):
                await server.joined()
            await away.start()

    run(scenario)


def test_without_a_name_it_makes_one_and_keeps_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            async with agent(tmp_path, server, device_id=None):
                first = await server.joined()
            async with agent(tmp_path, server, device_id=None):
                assert (await server.joined(2)).device_id == first.device_id

    run(scenario)


def test_another_name_joins_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            async with agent(tmp_path, server):
                await server.joined()
            async with agent(tmp_path, server, device_id="other"):
                register = await server.joined(2)
            assert (register.device_id, register.secret, register.join_token) == ("other", None, "a-token")

    run(scenario)


def test_the_operator_decides_role_tags_and_types(tmp_path: Path) -> None:
    from retire_cluster.protocol.states import Role

    async def scenario() -> None:
        async with gateway() as server:
            changes: dict[str, Any] = {
                "role": Role.STORAGE,
                "tags": ("attic",),
                "task_types": ("echo",),
                "max_memory_mb": 512,
            }
            async with agent(tmp_path, server, **changes):
                register = await server.joined()
            assert register.role is Role.STORAGE
            assert register.tags[0] == "attic"
            assert register.task_types == ("echo",)
            assert register.max_memory_mb == 512

    run(scenario)


def test_two_agents_do_not_share_a_directory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            async with agent(tmp_path, server) as second:
                ending = await second.refusal()
            assert ending.code is ExitCode.USAGE
            assert "another agent uses" in ending.message

    run(scenario)


def test_internet_found_later_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from retire_cluster.agent import vitals
    from retire_cluster.agent.address import Address

    async def scenario() -> None:
        found = asyncio.Event()

        async def slow(*_: object) -> bool:
            await found.wait()
            return True

        monkeypatch.setattr(vitals, "has_internet", slow)
        async with gateway() as server, agent(tmp_path, server, internet_probes=(Address("192.0.2.1"),)):
            first = await server.joined()
            assert first.capabilities.has_internet is None, "joining does not wait for it"
            assert first.capabilities.unknown["has_internet"]
            found.set()
            again = await server.joined(2)
            assert again.capabilities.has_internet is True
            assert "has_internet" not in again.capabilities.unknown

    run(scenario)
