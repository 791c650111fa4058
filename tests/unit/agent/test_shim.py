"""The end of a task whose guard was killed: who carries its mark is found and killed."""

import signal
from collections.abc import Iterable

import pytest

from retire_cluster.agent.execution.children import shim

PID = 4194301


class Machine:
    """Its looks for the task's processes find what the test says, and nothing afterwards."""

    def __init__(self, *looks: list[int]) -> None:
        self._looks = iter(looks)
        self.killed: list[int] = []

    def marked(self, attempt: str) -> list[int]:
        return next(self._looks, [])

    def send(self, pids: Iterable[int], number: int) -> None:
        if number == signal.SIGKILL:
            self.killed += pids


@pytest.mark.parametrize(
    "looks",
    [
        ([PID], [PID]),
        ([], [], [PID], [PID]),  # it was becoming another program
        ([], [], [], [PID], [PID]),
    ],
)
def test_a_process_that_a_look_or_two_miss_is_killed_too(
    looks: tuple[list[int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(*looks)
    monkeypatch.setattr(shim, "marked", machine.marked)
    monkeypatch.setattr(shim, "send", machine.send)
    assert shim.end_marked("a" * 32) == []
    assert machine.killed == [PID]


def test_what_does_not_go_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "KILL_S", 0.0)
    monkeypatch.setattr(shim, "marked", lambda _: [PID])
    monkeypatch.setattr(shim, "send", Machine().send)
    assert shim.end_marked("a" * 32) == [f"pid {PID}"]
