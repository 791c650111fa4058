"""Output is read whole and once, followed with few calls, and also where the server tells of no events."""

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retire_cluster.sdk.errors import TaskNotFound
from tests.unit.sdk.network import CREATED, StillClock, client, failure, success


class Printing:
    """A task that prints a character at each of the given times and ends at the last one. There is no `/ws`."""

    def __init__(self, times: list[float], left: str | None = None) -> None:
        self.clock = StillClock()
        self._times = sorted(self.clock.now() + moment for moment in times)
        self._left = left
        self.asked: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        now = self.clock.now()
        self.asked.append(now)
        offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
        printed = sum(moment <= now for moment in self._times)
        shown = range(offset, min(printed, offset + limit))
        ended = printed == len(self._times)
        data = {
            "task_id": "t1",
            "status": "success" if ended else "running",
            "chunks": [chunk(number) for number in shown],
            "next_offset": offset + len(shown),
            "is_complete": ended and offset + len(shown) == printed,
        }
        headers = {} if self._left is None else {"X-RateLimit-Remaining": self._left}
        return success(data, headers=headers)


def chunk(number: int) -> dict[str, Any]:
    text = chr(ord("a") + number % 26)
    return {"offset": number, "attempt": 1, "stream": "stdout", "text": text, "at": CREATED, "left_out": 0}


@given(st.lists(st.floats(0, 60), max_size=30))
def test_a_followed_output_is_whole_and_in_order(times: list[float]) -> None:
    task = Printing(times)
    found = list(polling(task).logs("t1", follow=True))
    assert [item.offset for item in found] == list(range(len(times)))
    assert len(task.asked) <= 10 + 60 / 0.3


def polling(task: Printing) -> Any:
    """A client whose server has no events: nothing listens on that port."""
    return client(task, task.clock, "http://127.0.0.1:1/api/v1", retries=0)


@given(st.integers(0, 1200), st.integers(0, 1300))
def test_what_is_there_is_read_from_any_offset_on(printed: int, offset: int) -> None:
    task = Printing([0.0] * printed)
    found = list(client(task, task.clock).logs("t1", offset=offset))
    assert [item.offset for item in found] == list(range(offset, printed))
    assert task.clock.pauses == []


def test_a_running_task_is_not_waited_for_without_follow() -> None:
    task = Printing([0.0, 0.0, 100.0])
    assert len(list(client(task, task.clock).logs("t1"))) == 2
    assert task.clock.pauses == []


def test_a_silent_task_costs_few_calls() -> None:
    task = Printing([600.0])
    assert len(list(polling(task).logs("t1", follow=True))) == 1
    assert len(task.asked) < 220


def test_with_few_calls_left_it_asks_seldom() -> None:
    task = Printing([number / 10 for number in range(200)], left="3")
    assert len(list(polling(task).logs("t1", follow=True))) == 200
    assert len(task.asked) <= 9


def test_a_task_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(TaskNotFound):
        list(client(lambda request: failure(404, "TASK_NOT_FOUND")).logs("t1", follow=True))
