"""GET tasks, tasks/{id}, /status, /result, tasks/results, tasks/types."""

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusterconfig.audit import SYSTEM
from tasks import results as reading
from tasks import services
from tests.contract.conftest import Api
from tests.factories import START, make_attempt, make_device, make_finished_task, make_task

pytestmark = pytest.mark.django_db

ROW = {
    "task_id",
    "task_type",
    "status",
    "priority",
    "created_at",
    "assigned_device_id",
    "assigned_at",
    "started_at",
    "completed_at",
    "execution_time_seconds",
    "retry_count",
    "progress",
}


def _ids(api: Api, query: str) -> list[str]:
    return [row["task_id"] for row in api.data(f"tasks?{query}")]


def test_the_list_is_newest_first_with_exactly_its_fields(api: Api) -> None:
    tasks = [make_task() for _ in range(3)]

    rows = api.data("tasks")

    assert [row["task_id"] for row in rows] == [str(task.pk) for task in reversed(tasks)]
    assert set(rows[0]) == ROW


def test_pages_count_and_end(api: Api) -> None:
    for _ in range(5):
        make_task()

    first = api.get("tasks?page_size=2").json()
    last = api.get("tasks?page_size=2&page=3").json()
    beyond = api.get("tasks?page=999999999999999999").json()

    assert first["pagination"] == {
        "page": 1,
        "page_size": 2,
        "total_items": 5,
        "total_pages": 3,
        "has_next": True,
        "has_previous": False,
    }
    assert (len(last["data"]), last["pagination"]["has_next"], last["pagination"]["has_previous"]) == (
        1,
        False,
        True,
    )
    assert beyond["data"] == []
    assert beyond["pagination"]["page"] == 999999999999999999


def test_an_empty_list_is_a_page_too(api: Api) -> None:
    assert api.get("tasks").json()["pagination"] == {
        "page": 1,
        "page_size": 20,
        "total_items": 0,
        "total_pages": 0,
        "has_next": False,
        "has_previous": False,
    }


def test_a_page_size_over_the_limit_is_taken_as_the_limit_and_said_so(api: Api) -> None:
    assert api.get("tasks?page_size=1000").json()["pagination"]["page_size"] == 100


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=x", "page"),
        ("page=1.5", "page"),
        ("page=%D9%A3", "page"),
        ("page_size=0", "page_size"),
        ("status=done", "status"),
        ("status=running,done", "status"),
        ("priority=asap", "priority"),
        ("device_id=a%20b", "device_id"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-13-01T00:00:00Z", "created_after"),
        ("created_before=0001-01-01T00:00:00%2B23:00", "created_before"),
        ("cursor=nonsense!", "cursor"),
        ("cursor=AAAA", "cursor"),
        ("cursor=_____________________________w", "cursor"),
        ("cursor=&page=2", "cursor"),
        ("task_type=" + "x" * 101, "task_type"),
        ("task_type=a%00b", "task_type"),
    ],
)
def test_an_invalid_parameter_is_named(api: Api, query: str, field: str) -> None:
    answer = api.get(f"tasks?{query}")

    assert answer.status_code == 400
    assert answer.json()["error_details"]["field"] == field


def test_filters_take_several_values_either_way(api: Api) -> None:
    device = make_device("nuc")
    queued, urgent = make_task(), make_task(priority="urgent", task_type="sleep")
    done = make_finished_task(device)

    assert _ids(api, "status=queued") == [str(urgent.pk), str(queued.pk)]
    assert _ids(api, "status=SUCCESS,queued&status=failed") == [str(done.pk), str(urgent.pk), str(queued.pk)]
    assert _ids(api, "priority=urgent&status=queued") == [str(urgent.pk)]
    assert _ids(api, "task_type=sleep&task_type=other") == [str(urgent.pk)]
    assert _ids(api, "device_id=nuc") == [str(done.pk)]
    assert _ids(api, "device_id=nobody") == []


@pytest.mark.parametrize("zone", ["Z", "%2B00:00", "+00:00", ""])
def test_times_are_inclusive_from_and_exclusive_to(api: Api, zone: str) -> None:
    tasks = [make_task(created_at=START + timedelta(minutes=minute)) for minute in range(3)]
    moment = (START + timedelta(minutes=1)).replace(tzinfo=None).isoformat()

    assert _ids(api, f"created_after={moment}{zone}") == [str(tasks[2].pk), str(tasks[1].pk)]
    assert _ids(api, f"created_before={moment}{zone}") == [str(tasks[0].pk)]


def test_a_cursor_walks_every_row_once_also_through_ties(api: Api) -> None:
    tasks = [make_task(created_at=START + timedelta(seconds=number // 3)) for number in range(10)]
    expected = [
        str(task.pk) for task in sorted(tasks, key=lambda task: (task.created_at, task.pk), reverse=True)
    ]

    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.get(f"tasks?page_size=3&cursor={cursor}").json()
        seen += [row["task_id"] for row in page["data"]]
        assert page["pagination"]["has_next"] == (page["pagination"]["next_cursor"] is not None)
        cursor = page["pagination"]["next_cursor"]
        make_task(created_at=START + timedelta(days=1))  # arrivals neither shift nor repeat anything

    assert seen == expected


def test_the_list_costs_the_same_queries_for_any_size(api: Api) -> None:
    def count(query: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            api.data(f"tasks?{query}")
        return len(queries)

    make_task()
    few = count("page_size=100"), count("cursor=")
    for _ in range(30):
        make_task()

    assert (count("page_size=100"), count("cursor=")) == few == (2, 1)


def test_a_cursor_uses_the_index_instead_of_sorting(api: Api) -> None:
    with CaptureQueriesContext(connection) as queries:
        for _ in range(3):
            make_task()
        cursor = api.get("tasks?page_size=1&cursor=").json()["pagination"]["next_cursor"]
        api.data(f"tasks?page_size=1&cursor={cursor}")
    sql = next(query["sql"] for query in reversed(queries) if query["sql"].startswith("SELECT"))

    assert "OFFSET" not in sql
    assert "COUNT(" not in sql


def test_details_hold_everything_and_the_payload_as_it_is_stored(api: Api) -> None:
    device = make_device("nuc")
    task = make_task(
        payload='{"b":1.0e2,"a":[1,  2]}', metadata={"by": "me"}, requirements={"min_cpu_cores": 2}
    )
    late = '{"outcome": "success", "ran_s": 2.5}'
    make_attempt(task, device, outcome="lost", reason="connection lost", late=late)
    make_attempt(task, device)

    answer = api.get(f"tasks/{task.pk}")

    data = answer.json()["data"]
    assert set(data) == ROW | {"payload", "requirements", "metadata", "error_history", "attempts", "result"}
    assert '"payload":{"b":1.0e2,"a":[1,  2]}' in answer.content.decode()
    assert (data["metadata"], data["requirements"]) == ({"by": "me"}, {"min_cpu_cores": 2})
    assert [(item["number"], item["state"], item["outcome"]) for item in data["attempts"]] == [
        (1, "ended", "lost"),
        (2, "running", None),
    ]
    assert set(data["attempts"][0]) == {
        "number",
        "round",
        "device_id",
        "state",
        "outcome",
        "reason",
        "confirmed",
        "assigned_at",
        "started_at",
        "ended_at",
        "execution_time_seconds",
        "error_message",
        "error_traceback",
        "late",
    }
    assert [item["late"] for item in data["attempts"]] == [{"outcome": "success", "ran_s": 2.5}, None]
    assert [item["error_message"] for item in data["error_history"]] == ["connection lost"]
    assert data["result"] is None


def test_a_result_has_exactly_its_fields(api: Api) -> None:
    task = make_finished_task(make_device("laptop-001"), result='{"echo":{"message":"Hello World"}}')

    data = api.data(f"tasks/{task.pk}/result")

    assert set(data) == {
        "task_id",
        "status",
        "result_data",
        "execution_time_seconds",
        "worker_device_id",
        "started_at",
        "completed_at",
        "error_message",
        "error_traceback",
    }
    assert data["result_data"] == {"echo": {"message": "Hello World"}}
    assert (data["status"], data["worker_device_id"], data["execution_time_seconds"]) == (
        "success",
        "laptop-001",
        0.05,
    )
    assert data["error_message"] is None
    assert api.data(f"tasks/{task.pk}")["result"] == data["result_data"]


@pytest.mark.parametrize("status", ["failed", "timeout", "cancelled"])
def test_a_task_that_ended_badly_has_a_result_too(api: Api, status: str) -> None:
    task = make_finished_task(
        make_device(), status=status, result=None, error_message="boom", error_traceback="at x"
    )

    data = api.data(f"tasks/{task.pk}/result")

    assert (data["status"], data["result_data"]) == (status, None)
    assert (data["error_message"], data["error_traceback"]) == ("boom", "at x")


def test_a_task_cancelled_before_it_ran_has_an_empty_result(api: Api) -> None:
    data = api.data(f"tasks/{make_task(status='cancelled').pk}/result")

    assert (data["result_data"], data["worker_device_id"], data["execution_time_seconds"]) == (
        None,
        None,
        0.0,
    )


@pytest.mark.parametrize("status", ["pending", "queued", "running"])
def test_the_result_of_an_unfinished_task_is_not_ready(api: Api, status: str) -> None:
    answer = api.get(f"tasks/{make_task(status=status).pk}/result")

    body = answer.json()
    assert (answer.status_code, body["error_code"]) == (404, "RESULT_NOT_READY")
    assert body["error_details"]["status"] == status


def results(api: Api, *task_ids: object) -> dict[str, Any]:
    found: dict[str, Any] = api.data(f"tasks/results?task_id={','.join(map(str, task_ids))}")
    return found


def test_results_of_many_tasks_come_in_one_answer_in_their_order(api: Api) -> None:
    device = make_device()
    ended = [make_finished_task(device, status=status) for status in ("success", "failed", "timeout")]
    never_ran, waits = make_task(status="cancelled"), make_task(status="queued")
    nobody = uuid.UUID(int=1)
    wanted = [ended[2], never_ran, ended[0], ended[1]]

    data = results(api, *(task.pk for task in (ended[2], never_ran, waits, ended[0])), nobody, ended[1].pk)

    assert data["results"] == [api.data(f"tasks/{task.pk}/result") for task in wanted]
    assert (data["open"], data["left_out"], data["unknown"]) == ([str(waits.pk)], [], [str(nobody)])


def test_an_id_given_twice_has_one_result(api: Api) -> None:
    task = make_finished_task(make_device())

    data = results(api, task.pk, str(task.pk).upper(), task.pk.hex)

    assert [item["task_id"] for item in data["results"]] == [str(task.pk)]


def test_results_that_are_too_much_for_one_answer_are_named(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device()
    tasks = [make_finished_task(device, result=f'"{letter * 1000}"') for letter in "abcd"]
    ids = [str(task.pk) for task in tasks]
    monkeypatch.setattr("tasks.results.MAX_CHARACTERS", 2500)

    data = results(api, *ids)

    assert [item["task_id"] for item in data["results"]] == ids[:2]
    assert (data["left_out"], data["open"], data["unknown"]) == (ids[2:], [], [])
    monkeypatch.setattr("tasks.results.MAX_CHARACTERS", 10)
    assert [item["task_id"] for item in results(api, *ids[2:])["results"]] == ids[2:3], "always one"


def test_a_task_that_is_retried_while_results_are_read_is_open(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_finished_task(make_device(), status="failed")
    fitting = reading._fitting

    def retried(*given: Any) -> list[uuid.UUID]:
        services.retry(task.pk, actor=SYSTEM)
        return fitting(*given)

    monkeypatch.setattr(reading, "_fitting", retried)

    data = results(api, task.pk)

    assert (data["results"], data["open"]) == ([], [str(task.pk)])


@pytest.mark.parametrize(
    ("status", "terminal", "retry"),
    [
        ("queued", False, False),
        ("running", False, False),
        ("success", True, False),
        ("failed", True, True),
        ("timeout", True, True),
        ("cancelled", True, True),
    ],
)
def test_the_status_says_what_can_follow(api: Api, status: str, terminal: bool, retry: bool) -> None:
    data = api.data(f"tasks/{make_task(status=status).pk}/status")

    assert set(data) == ROW | {
        "progress_message",
        "is_terminal",
        "can_retry",
        "cancel_requested",
        "queue_reason",
    }
    assert (data["is_terminal"], data["can_retry"], data["cancel_requested"]) == (terminal, retry, False)


def test_the_status_of_a_waiting_task_says_why_it_waits(api: Api) -> None:
    assert "no device" in api.data(f"tasks/{make_task().pk}/status")["queue_reason"]


def test_a_task_asked_to_stop_says_so(api: Api) -> None:
    task = make_task(status="running", cancel_requested_at=START)

    assert api.data(f"tasks/{task.pk}/status")["cancel_requested"] is True


def test_an_id_without_dashes_finds_the_task(api: Api) -> None:
    task = make_task()

    assert api.data(f"tasks/{task.pk.hex.upper()}")["task_id"] == str(task.pk)


def test_types_are_those_of_online_devices(api: Api) -> None:
    make_device(task_types=["echo", "render"])
    make_device(task_types=["echo"])
    make_device(task_types=["gone"], online=False)

    assert api.data("tasks/types") == {
        "supported_types": ["echo", "render"],
        "devices_by_type": {"echo": 2, "render": 1},
        "builtin_types": ["echo", "sleep", "system_info", "python_eval", "http_request", "command"],
        "custom_types": ["render"],
        "total_count": 2,
        "online_devices": 2,
    }


def test_retries_are_counted_up_to_what_was_allowed(api: Api) -> None:
    task = make_task(status="failed", failures=3, max_retries=2)

    assert api.data(f"tasks/{task.pk}/status")["retry_count"] == 2


def test_a_wait_that_is_over_at_once_answers_at_once(api: Api) -> None:
    done = make_finished_task(make_device())

    assert api.data(f"tasks/{done.pk}/result?wait=60")["status"] == "success"
    assert api.data(f"tasks/{done.pk}/status?wait=60")["is_terminal"] is True


def test_payloads_of_a_list_are_not_read(api: Api) -> None:
    make_task(payload=json.dumps({"big": "x" * 1000}))
    with CaptureQueriesContext(connection) as queries:
        api.data("tasks")

    assert all('"payload"' not in query["sql"] for query in queries)
