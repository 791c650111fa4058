"""Parts of a cluster die, leave children behind and come back; the killer gives them time for that."""

import asyncio
import itertools
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from retire_cluster.torture import killer as module
from retire_cluster.torture import parts
from retire_cluster.torture.evidence import group, is_alive
from retire_cluster.torture.killer import MOST_IN_VAIN, Killer
from retire_cluster.torture.parts import Part
from retire_cluster.torture.processes import CannotStart, Managed
from retire_cluster.torture.shapes import Blow
from tests.e2e.cluster import until

CHANCE = Random(1)
PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""
# Ends at its first start, stays at its second.
SECOND_TIME = """
import pathlib, sys, time
file = pathlib.Path("was-here")
if not file.exists():
    file.touch()
    sys.exit(1)
time.sleep(600)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "part.log"


@pytest.fixture
def parent(log: Path) -> Iterator[Managed]:
    process = Managed(["-c", PARENT], log)
    process.start()
    yield process
    process.kill()


def children(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().splitlines()]


def test_what_a_killed_program_left_behind_ends_before_its_next_start(parent: Managed, log: Path) -> None:
    (child,) = until(lambda: children(log), "its child")
    parent.strike()
    assert is_alive(child)
    parent.start()
    assert not is_alive(child)
    until(lambda: len(children(log)) == 2, "the child of its second life")
    assert parent.exit_code is None


def test_what_was_killed_is_gone_with_all_it_started(parent: Managed, log: Path) -> None:
    (child,) = until(lambda: children(log), "its child")
    (leader,) = set(group(os.getpgid(child))) - {child}
    assert group(leader) == sorted((leader, child))
    parent.kill()
    assert group(leader) == []


def test_one_of_its_children_alone_can_be_killed(parent: Managed, log: Path) -> None:
    (child,) = until(lambda: children(log), "its child")
    assert parent.strike_child(CHANCE)
    until(lambda: not is_alive(child), "the child's end")
    assert parent.exit_code is None


def test_a_part_that_ends_while_it_starts_is_started_again(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part("second", Managed(["-c", SECOND_TIME], log))
    # Time stands still until the first one has ended, however long that takes.
    seconds = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(seconds) if part.restarts else 0)
    monkeypatch.setattr(parts, "time", clock)
    try:
        asyncio.run(part.up())
        assert (part.restarts, part.exit_code) == (1, None)
    finally:
        part.stop()


def test_a_part_that_never_stays_is_named(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "UP_S", 0.5)
    part = Part("fleeting", Managed(["-c", "pass"], log))
    try:
        with pytest.raises(CannotStart, match="fleeting did not start within"):
            asyncio.run(part.up())
    finally:
        part.stop()


class Target:
    """Two victims that stay down for some draws of the killer's; says how often one was hit while it was down."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.parts: dict[str, Part] = {}
        self.down: set[str] = set()
        self.hit_while_down = 0
        self.draws = 0.0

    def blows(self) -> list[Blow]:
        return [Blow("hit", 1, {name: self._hit(name) for name in ("left", "right")})]

    def _hit(self, name: str) -> Any:
        async def strike(_: float, __: Random) -> None:
            self.hit_while_down += name in self.down
            self.down.add(name)
            until_draw = self.draws + 5
            while self.draws < until_draw:
                await asyncio.sleep(0.001)
            self.down.discard(name)

        return strike


async def struck(killer: Killer, target: Target, count_ended: Any, *, enough: int, draws: int) -> None:
    """Let it strike until it has done so often enough, or looked so many times whether tasks end."""
    over = asyncio.Event()

    def looked() -> int:
        target.draws += 1
        if target.draws > draws or len(killer.struck) >= enough:
            over.set()
        return int(count_ended())

    striking = asyncio.create_task(killer.run(looked))
    await asyncio.wait_for(over.wait(), 60)
    striking.cancel()
    with suppress(asyncio.CancelledError):
        await striking
    target.draws = math.inf
    await killer.leave()


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESTS_S", {"agent": (0, 0), "server": (0, 0)})


@pytest.mark.usefixtures("restless")
def test_what_is_down_is_left_alone_until_it_is_up_again() -> None:
    target = Target()
    killer = Killer(1, target, 0.001)  # type: ignore[arg-type]  # all of a shape that it looks at
    ended = itertools.count()
    asyncio.run(struck(killer, target, lambda: next(ended), enough=20, draws=10_000))
    assert len(killer.struck) >= 20
    assert target.hit_while_down == 0
    assert len(killer.troubles()) == len(killer.struck)


@pytest.mark.usefixtures("restless")
def test_while_no_task_ends_the_blows_cease() -> None:
    target = Target()
    killer = Killer(1, target, 0.001)  # type: ignore[arg-type]  # all of a shape that it looks at
    asyncio.run(struck(killer, target, lambda: 0, enough=1000, draws=40 * MOST_IN_VAIN))
    assert 1 <= len(killer.struck) < MOST_IN_VAIN


def test_what_ends_by_itself_is_noted_and_started_again(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "STAYS_S", 0.2)
    monkeypatch.setattr(module, "WATCH_S", 0.01)
    part = Part("second", Managed(["-c", SECOND_TIME], log))
    part._process.start()
    killer = Killer(1, SimpleNamespace(nodes=[], parts={"second": part}), 1)  # type: ignore[arg-type]

    async def watched() -> None:
        watching = asyncio.create_task(killer.watch())
        async with asyncio.timeout(60):
            while not (killer.ended and part.exit_code is None):
                await asyncio.sleep(0.01)
        watching.cancel()

    try:
        asyncio.run(watched())
        assert [what for _, what in killer.ended] == ["second ended by itself with exit code 1"]
    finally:
        part.stop()
