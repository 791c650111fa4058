"""Waiting: to the end or to the deadline, with few calls, and never in a hurry."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retire_cluster.sdk import ConnectionFailed, DeadlinePassed, InvalidRequest, RetireClusterAPI, Task
from retire_cluster.sdk.errors import ResultNotReady, Unavailable
from tests.unit.sdk.network import StillClock, client, failure, success, task_row

START = datetime(2026, 11, 28, 10, tzinfo=UTC)
RESULT = {
    "task_id": "t0",
    "status": "success",
    "result_data": {"echo": 1},
    "execution_time_seconds": 0.5,
    "worker_device_id": "d",
    "started_at": None,
    "completed_at": START.isoformat(),
    "error_message": None,
    "error_traceback": None,
}


class Cluster:
    """Tasks that end at times of their own; long polls take as long as the real ones. It may limit calls."""

    def __init__(
        self,
        ends: list[float],
        *,
        polls: bool = True,
        a_minute: int | None = None,
        refuses_many: httpx.Response | None = None,
        most_results: int = 100,
    ) -> None:
        self.clock = StillClock()
        self._began = self.clock.now()
        width = len(str(max(0, len(ends) - 1))) if len(ends) > 150 else 1
        self._ends = {f"t{number:0{width}}": self._began + seconds for number, seconds in enumerate(ends)}
        self._polls = polls
        self._refuses_many = refuses_many
        self._most_results = most_results
        self._a_minute = a_minute
        self.calls: list[tuple[float, str]] = []
        self.refused = 0
        self.api = client(self, self.clock)
        rows = [self._row(task_id) for task_id in self._ends]
        self.tasks = [Task.of(row) for row in rows]

    def _row(self, task_id: str) -> dict[str, Any]:
        number = int(task_id[1:])
        ended = self.clock.now() >= self._ends[task_id]
        created = (START + timedelta(milliseconds=number)).isoformat()
        return {**task_row(task_id, "success" if ended else "running"), "created_at": created}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        now = self.clock.now()
        recent = [moment for moment, _ in self.calls if moment > now - 60]
        if self._a_minute is not None and len(recent) >= self._a_minute:
            self.refused += 1
            again = {"Retry-After": str(int(recent[0] + 60 - now) + 1)}
            return failure(429, "RATE_LIMIT_EXCEEDED", headers=again)
        self.calls.append((now, request.url.path))
        left: dict[str, str] = {}
        if self._a_minute is not None:
            again_at = (recent[0] if recent else now) + 60
            left["X-RateLimit-Remaining"] = str(self._a_minute - len(recent) - 1)
            left["X-RateLimit-Reset"] = str(math.ceil(START.timestamp() + again_at))
            left["Date"] = format_datetime(START + timedelta(seconds=int(now)), usegmt=True)
        if request.url.path.endswith("/tasks"):
            return self._list(request, left)
        if request.url.path.endswith("/tasks/results"):
            return self._refuses_many or self._results(request.url.params["task_id"].split(","), left)
        *_, task_id, what = request.url.path.split("/")
        if what == "status":
            wait = float(request.url.params.get("wait", 0))
            assert wait <= 60
            if self._polls:
                self.clock.time = max(now, min(now + wait, self._ends[task_id]))
            return success(self._row(task_id), headers=left)
        wait = float(request.url.params.get("wait", 0))
        assert wait <= 60
        if self._polls:
            self.clock.time = max(now, min(now + wait, self._ends[task_id]))
        if self._row(task_id)["status"] == "running":
            return failure(404, "RESULT_NOT_READY", headers=left)
        return success({**RESULT, "task_id": task_id}, headers=left)

    def _results(self, task_ids: list[str], left: dict[str, str]) -> httpx.Response:
        assert len(task_ids) <= 100
        ended = [task_id for task_id in task_ids if self._row(task_id)["status"] == "success"]
        shown = [{**RESULT, "task_id": task_id} for task_id in ended[: self._most_results]]
        still = [task_id for task_id in task_ids if task_id not in ended]
        lists = {"open": still, "left_out": ended[self._most_results :], "unknown": []}
        return success({"results": shown, **lists}, headers=left)

    def _list(self, request: httpx.Request, left: dict[str, str]) -> httpx.Response:
        params = request.url.params
        rows = [self._row(task_id) for task_id in reversed(self._ends)]
        wanted = [
            row
            for row in rows
            if params["created_after"] <= row["created_at"] < params["created_before"]
            and row["status"] in (params.get_list("status") or [row["status"]])
        ]
        size = int(params["page_size"])
        start = int(params["cursor"] or 0) if "cursor" in params else size * (int(params["page"]) - 1)
        more = start + size < len(wanted)
        place: dict[str, Any] = {"page_size": size, "has_next": more}
        if "page" in params:
            place["total_items"] = len(wanted)
        else:
            place["next_cursor"] = str(start + size) if more else None
        return success(wanted[start : start + size], pagination=place, headers=left)


def test_a_wait_ends_when_the_task_does() -> None:
    cluster = Cluster([130])
    began = cluster.clock.now()
    assert cluster.api.wait("t0").is_terminal
    assert cluster.clock.now() == began + 130
    assert len(cluster.calls) == 3, "long polls, not many short ones"


def test_a_deadline_passes_and_tells_the_state() -> None:
    cluster = Cluster([130])
    began = cluster.clock.now()
    with pytest.raises(DeadlinePassed, match="t0 is running after 70 s; it goes on running") as caught:
        cluster.api.wait("t0", timeout=70)
    assert caught.value.task.status == "running"
    assert caught.value.open == (caught.value.task,)
    assert cluster.clock.now() == began + 70


@pytest.mark.parametrize("wait", [lambda api: api.wait("t0", 0), lambda api: api.wait_all(["t0"], 0)])
def test_no_time_at_all_is_a_look(wait: Callable[[RetireClusterAPI], Any]) -> None:
    cluster = Cluster([1])
    with pytest.raises(DeadlinePassed) as caught:
        wait(cluster.api)
    assert caught.value.task.status == "running"
    assert len(cluster.calls) == 1


def test_a_server_that_does_not_wait_is_not_asked_without_pause() -> None:
    cluster = Cluster([10], polls=False)
    cluster.api.wait("t0")
    assert len(cluster.calls) <= 21


@pytest.mark.parametrize("wait", [lambda api: api.wait("t0"), lambda api: list(api.results(["t0"]))])
def test_nor_more_often_than_its_rate_limit_lets(wait: Callable[[RetireClusterAPI], Any]) -> None:
    cluster = Cluster([200], polls=False, a_minute=60)
    wait(cluster.api)
    assert cluster.refused == 0


def test_a_lost_connection_is_an_error_and_no_deadline() -> None:
    clock = StillClock()

    def answering(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    began = clock.now()
    with pytest.raises(ConnectionFailed):
        client(answering, clock, retries=1000).wait("t0", timeout=30)
    assert clock.now() <= began + 30


class Restarting(Cluster):
    """A server that is away between two moments, and says so in a way of its own."""

    def __init__(self, ends: list[float], away: tuple[float, float], how: httpx.Response | Exception) -> None:
        super().__init__(ends)
        self._away = [self.clock.now() + moment for moment in away]
        self._how = how

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self._away[0] <= self.clock.now() < self._away[1]:
            if isinstance(self._how, Exception):
                raise self._how
            return httpx.Response(self._how.status_code, content=b"<html>")
        return super().__call__(request)


AWAY = [httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.Response(502), httpx.Response(503)]


@pytest.mark.parametrize("how", AWAY)
@pytest.mark.parametrize("many", [1, 40])
def test_a_wait_outlasts_a_server_that_restarts(
    how: httpx.Response | Exception, many: int, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Restarting([900.0] * many, (40, 400), how)
    with caplog.at_level("INFO", logger="retire_cluster.sdk"):
        found = cluster.api.wait_all(cluster.tasks, timeout=3600)
    assert [task.status for task in found] == ["success"] * many
    words = [record.getMessage() for record in caplog.records if record.name == "retire_cluster.sdk"]
    assert len(words) == 2, "an outage is said once, and its end once"
    assert "asking again for up to" in words[0]
    assert words[1] == "http://cluster.test:8081 answers again"


def test_a_wait_holds_on_to_its_deadline_and_no_longer() -> None:
    cluster = Restarting([900], (40, 1e9), httpx.ConnectError("refused"))
    began = cluster.clock.now()
    with pytest.raises(ConnectionFailed):
        cluster.api.wait("t0", timeout=1000)
    assert 990 <= cluster.clock.now() - began <= 1000


def test_a_wait_without_a_deadline_gives_a_server_ten_minutes() -> None:
    cluster = Restarting([9000], (40, 1e9), httpx.ConnectError("refused"))
    began = cluster.clock.now()
    with pytest.raises(ConnectionFailed):
        cluster.api.wait("t0")
    assert 600 <= cluster.clock.now() - began - 50 <= 620


def test_a_server_that_was_never_there_is_not_waited_for() -> None:
    cluster = Restarting([900], (0, 1e9), httpx.ConnectError("refused"))
    began = cluster.clock.now()
    with pytest.raises(ConnectionFailed):
        cluster.api.wait("t0", timeout=3600)
    assert cluster.clock.now() - began < 20


def test_other_calls_do_not_wait_for_a_server_that_restarts() -> None:
    cluster = Restarting([900], (40, 1e9), httpx.ConnectError("refused"))
    cluster.api.status("t0")
    began = cluster.clock.time = cluster.clock.now() + 50
    with pytest.raises(ConnectionFailed):
        cluster.api.status("t0")
    assert cluster.clock.now() - began < 20


def test_what_a_proxy_says_of_an_outage_steers_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    words = "\x1b]0;mine\x07\nall is well"

    def answering(request: httpx.Request) -> httpx.Response:
        clock.time += 1
        if clock.now() < 1020:
            return success(task_row(status="running"))
        return failure(503, "SERVICE_UNAVAILABLE", words)

    clock = StillClock()
    with caplog.at_level("INFO", logger="retire_cluster.sdk"), pytest.raises(Unavailable):
        client(answering, clock).wait("t1", timeout=100)
    [said] = [record.getMessage() for record in caplog.records if record.name == "retire_cluster.sdk"]
    assert said.isprintable()


def test_no_number_is_no_timeout() -> None:
    cluster = Cluster([10])
    with pytest.raises(InvalidRequest):
        cluster.api.wait("t0", timeout=float("nan"))
    assert cluster.calls == []


def test_a_deadline_holds_though_the_list_is_long() -> None:
    """With a limit of calls each page of the list takes seconds."""
    cluster = Cluster([1e6] * 5000, a_minute=60)
    began = cluster.clock.now()
    with pytest.raises(DeadlinePassed, match="of 5000 tasks"):
        cluster.api.wait_all(cluster.tasks, timeout=30)
    assert cluster.clock.now() - began <= 40


def test_a_result_is_read_now_or_waited_for() -> None:
    cluster = Cluster([5])
    with pytest.raises(ResultNotReady, match="wait"):
        cluster.api.result("t0")
    with pytest.raises(DeadlinePassed):
        cluster.api.result("t0", timeout=3)
    assert cluster.api.result(cluster.tasks[0], timeout=3).result_data == {"echo": 1}


@settings(max_examples=60)
@given(st.lists(st.floats(0, 200), max_size=40), st.none() | st.integers(30, 80))
def test_all_are_waited_for_to_the_last_one(ends: list[float], a_minute: int | None) -> None:
    cluster = Cluster(ends, a_minute=a_minute)
    began = cluster.clock.now()
    found = cluster.api.wait_all(cluster.tasks)
    assert [task.task_id for task in found] == [task.task_id for task in cluster.tasks]
    assert all(task.is_terminal for task in found)
    assert cluster.clock.now() >= began + max(ends, default=0)
    assert cluster.refused == 0, "the rate limit is kept, not run into"


def test_ids_alone_can_be_waited_for_and_named_twice() -> None:
    cluster = Cluster([3.0] * 15)
    wanted = [f"t{number}" for number in range(15)] + ["t3"]
    assert [task.task_id for task in cluster.api.wait_all(wanted)] == wanted


@pytest.mark.parametrize("many", [300, 1200])
@pytest.mark.parametrize("as_ids", [False, True])
def test_many_that_ended_at_once_cost_a_call_for_each_hundred(many: int, as_ids: bool) -> None:
    cluster = Cluster([0.9] * many, a_minute=60)
    began = cluster.clock.now()
    # Ids in the order of creation, as the server's are: two of them tell when all were created.
    wanted = [task.task_id for task in cluster.tasks] if as_ids else cluster.tasks
    found = cluster.api.wait_all(wanted)
    assert len(found) == many
    assert all(task.is_terminal for task in found)
    assert len(cluster.calls) <= many / 100 + 5
    assert cluster.clock.now() - began <= 2.0


def test_tasks_that_end_one_after_the_other_do_not_use_the_calls_up() -> None:
    cluster = Cluster([number / 10 for number in range(1200)], a_minute=60)
    began = cluster.clock.now()
    cluster.api.wait_all(cluster.tasks)
    assert cluster.refused == 0
    assert cluster.clock.now() - began < 120 + 50, "soon after the last one"


def test_a_thousand_tasks_cost_few_calls() -> None:
    cluster = Cluster([number / 100 for number in range(1000)])
    cluster.api.wait_all(cluster.tasks)
    assert len(cluster.calls) < 60


def test_what_others_run_hides_no_task() -> None:
    cluster = Cluster([0.0] * 20 + [1e6] * 150 + [5.0] * 20)
    found = cluster.api.wait_all([*cluster.tasks[:20], *cluster.tasks[-20:]])
    assert len(found) == 40
    assert all(task.is_terminal for task in found)


def test_ids_that_do_not_tell_when_they_were_made_are_asked_for_within_the_rate_limit() -> None:
    cluster = Cluster([0.0] * 150, a_minute=60)
    found = cluster.api.wait_all([f"t{number}" for number in (*range(100, 150), *range(100))])
    assert [task.is_terminal for task in found] == [True] * 150
    assert cluster.refused == 0


def test_results_come_as_they_are_there() -> None:
    cluster = Cluster([5.0, 1.0, 70.0], a_minute=60)
    began = cluster.clock.now()
    came = [(found.task_id, cluster.clock.now() - began) for found in cluster.api.results(cluster.tasks)]
    assert came == [("t0", 5), ("t1", 5), ("t2", 70)]
    asked = [path.removeprefix("/api/v1/tasks/") for _, path in cluster.calls]
    # The last is waited for; it outlasts one poll.
    assert asked == ["results", "t0/result", "results", "t2/result", "t2/result"]


@pytest.mark.parametrize("most", [100, 7])
def test_many_results_are_few_calls(most: int) -> None:
    cluster = Cluster([0.0] * 300, a_minute=60, most_results=most)
    began = cluster.clock.now()
    found = [result.task_id for result in cluster.api.results(cluster.tasks)]
    assert found == [task.task_id for task in cluster.tasks]
    assert cluster.refused == 0
    assert len(cluster.calls) == (6 if most == 100 else math.ceil(300 / 7))
    assert cluster.clock.now() - began < 60


def test_results_that_come_fast_are_few_calls_though_each_is_waited_for() -> None:
    cluster = Cluster([number / 100 for number in range(300)], a_minute=60)
    began = cluster.clock.now()
    assert len(list(cluster.api.results(cluster.tasks))) == 300
    assert len(cluster.calls) < 20
    assert cluster.clock.now() - began < 3 + 5, "soon after the last one"


def test_results_that_trickle_in_keep_pace_with_the_rate_limit() -> None:
    cluster = Cluster([float(number) for number in range(200)], a_minute=60)
    began = cluster.clock.now()
    assert len(list(cluster.api.results(cluster.tasks))) == 200
    assert cluster.refused == 0
    assert cluster.clock.now() - began < 200 + 10, "soon after the last one"


def test_an_id_given_twice_has_its_result_twice() -> None:
    cluster = Cluster([0.0, 0.0])
    assert [found.task_id for found in cluster.api.results(["t0", "t1", "t0"])] == ["t0", "t1", "t0"]


@pytest.mark.parametrize("refusal", [failure(400, "VALIDATION_ERROR"), failure(404, "TASK_NOT_FOUND")])
def test_where_many_are_not_answered_each_is_asked_for(refusal: httpx.Response) -> None:
    cluster = Cluster([0.0] * 3, refuses_many=refusal)
    assert [found.task_id for found in cluster.api.results(cluster.tasks)] == ["t0", "t1", "t2"]
    assert len(cluster.calls) == 1 + 3, "many are asked for once"


def test_results_are_late_where_a_task_is_and_those_in_time_are_read() -> None:
    cluster = Cluster([1.0, 9.0, 1.0])
    found: list[str] = []
    with pytest.raises(DeadlinePassed, match="t1 is running after 3 s"):
        found.extend(result.task_id for result in cluster.api.results(cluster.tasks, timeout=3))
    assert found == ["t0"]
    assert [result.task_id for result in cluster.api.results(["t2", "t0"], timeout=0)] == ["t2", "t0"]


def test_those_that_are_open_at_the_deadline_are_named() -> None:
    cluster = Cluster([1, 1, 100, 1, 200])
    with pytest.raises(DeadlinePassed, match="2 of 5 tasks have not ended after 20 s") as caught:
        cluster.api.wait_all(cluster.tasks, timeout=20)
    assert caught.value.task.task_id == "t2"


def test_a_task_that_was_retried_is_waited_for_though_it_was_given_as_failed() -> None:
    cluster = Cluster([5])
    old = Task.of(task_row("t0", "failed"))
    [found] = cluster.api.wait_all([old])
    assert found.status == "success"


def test_nothing_to_wait_for_asks_for_nothing() -> None:
    cluster = Cluster([])
    assert cluster.api.wait_all([]) == []
    assert cluster.calls == []
