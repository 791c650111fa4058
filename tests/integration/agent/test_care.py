"""An owner's limits, from the sensors of a made-up machine to what the gateway is told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.agent.host import Host
from retire_cluster.protocol.messages import Declined, Heartbeat, Register
from retire_cluster.protocol.states import HeldState
from tests.integration.agent.fake_gateway import gateway, run, task, until
from tests.integration.agent.harness import agent

LONG = '{"duration": 600}'
QUICK_LOOKS = {"care_s": 0.01}


class Laptop:
    """A machine with one battery and one sensor, as files."""

    def __init__(self, root: Path) -> None:
        self.host = Host(root=root, platform="linux", environ={}, has_android_api=False, affinity=lambda: 4)
        self._supply = root / "sys/class/power_supply/BAT0"
        self._zone = root / "sys/class/thermal/thermal_zone0"
        for directory in (self._supply, self._zone):
            directory.mkdir(parents=True)
        (self._supply / "type").write_text("Battery")
        (self._zone / "type").write_text("x86_pkg_temp")
        self.battery(80, "Discharging")
        self.heat(40)

    def battery(self, percent: int, status: str) -> None:
        (self._supply / "capacity").write_text(str(percent))
        (self._supply / "status").write_text(status)

    def heat(self, celsius: int) -> None:
        (self._zone / "temp").write_text(str(celsius * 1000))


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path / "root")


def test_a_change_is_told_at_once_and_not_with_the_next_heartbeat(tmp_path: Path, laptop: Laptop) -> None:
    async def scenario() -> None:
        async with (
            gateway() as server,
            agent(
                tmp_path,
                server,
                host=laptop.host,
                pause_on_battery=20,
                pause_above=75.0,
                timing=QUICK_LOOKS,
            ) as node,
        ):
            server.interval_s = 3600
            assert (await server.joined()).paused_reason is None
            await server.send(task("sleep", LONG))
            await until(lambda: node.states() == [HeldState.RUNNING], "it runs")

            laptop.battery(15, "Discharging")
            beat = await server.next(Heartbeat)
            assert beat.paused_reason == "battery at 15 %, limit 20 %; resumes at 25 % or when charging"
            assert (beat.metrics.battery_percent, beat.metrics.charging) == (15, False)
            assert [entry.state for entry in beat.held] == [HeldState.RUNNING]
            refused = task()
            await server.send(refused)
            declined = await server.next(Declined)
            assert (declined.attempt, declined.reason) == (refused.attempt, beat.paused_reason)

            laptop.battery(15, "Charging")
            assert (await server.next(Heartbeat, 2)).paused_reason is None
            accepted = task()
            await server.send(accepted)
            await server.result(accepted.attempt)

    run(scenario)


def test_a_device_that_is_too_hot_says_so_when_it_registers(tmp_path: Path, laptop: Laptop) -> None:
    async def scenario() -> None:
        laptop.heat(90)
        async with (
            gateway() as server,
            agent(tmp_path, server, host=laptop.host, pause_above=75.0, timing=QUICK_LOOKS),
        ):
            register = await server.joined()
            assert register.paused_reason == "temperature 90 °C, limit 75 °C; resumes at 70 °C"
            laptop.heat(70)
            assert (await server.next(Heartbeat)).paused_reason is None
            await server.restart()
            assert (await server.next(Register, 2)).paused_reason is None

    run(scenario)


def bare(root: Path) -> Host:
    """A machine that tells nothing at all."""
    root.mkdir()
    return Host(root=root, platform="linux", environ={}, has_android_api=False, affinity=lambda: None)


def phone(root: Path) -> Host:
    """A phone whose tool answers with nonsense."""
    tool = root / "bin/termux-battery-status"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho 'com.termux.api is not installed'\n")
    tool.chmod(0o755)
    return replace(bare(root / "x"), root=root, environ={"TERMUX_VERSION": "0.118", "PATH": "/bin"})


@pytest.mark.parametrize("machine", [bare, phone])
def test_without_sensors_limits_are_named_as_useless_and_the_device_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, machine: Callable[[Path], Host]
) -> None:
    limits: dict[str, Any] = {"pause_on_battery": 20, "pause_above": 75.0, "timing": QUICK_LOOKS}

    async def scenario() -> None:
        host = machine(tmp_path / "root")
        async with gateway() as server, agent(tmp_path, server, host=host, **limits):
            register = await server.joined()
            assert (register.paused_reason, register.metrics.battery_percent) == (None, None)
            job = task()
            await server.send(job)
            await server.result(job.attempt)

    run(scenario)
    assert "--pause-on-battery: this device does not tell" in caplog.text
    assert "--pause-above: this device does not tell" in caplog.text
