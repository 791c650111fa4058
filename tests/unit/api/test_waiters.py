"""Waiting for the end of rows: who is told, and when."""

import threading
from collections.abc import Iterator
from uuid import UUID

import pytest

from retire_cluster import waiters

ROW = UUID(int=1)


@pytest.fixture(autouse=True)
def going_on() -> Iterator[None]:
    """No test leaves the process as one that stops."""
    yield
    waiters._released.clear()


@pytest.fixture
def registry(settings: object) -> waiters.Waiters:
    setattr(settings, "WATCH_DATABASE", False)  # noqa: B010  the fixture has no type of its own
    return waiters.Waiters("test", lambda ids: [])


def test_the_end_of_a_row_wakes_its_callers_only(registry: waiters.Waiters) -> None:
    with registry.register(ROW) as told, registry.register(UUID(int=2)) as other:
        registry.ended([ROW])
        assert told.wait(10)
        assert not other.wait(0)
    assert registry.waited_for() == []


def test_a_stopping_process_releases_those_who_wait_and_those_who_come_later(
    registry: waiters.Waiters,
) -> None:
    with registry.register(ROW) as waiter:
        answers: list[bool] = []
        caller = threading.Thread(target=lambda: answers.append(waiter.wait(30)))
        caller.start()
        waiters.release_all()
        caller.join(10)
        assert answers == [True]
    with registry.register(ROW) as late:  # its request was read before the signal, its wait began after it
        assert late.wait(30)
