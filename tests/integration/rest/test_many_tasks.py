"""Lists and pages over 100,000 tasks: what they ask of the database, and that nothing reads a whole table.

Plans are looked at, not times. On Postgres they depend on statistics, so the table is analysed as autovacuum does.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from devices.models import Device, Presence
from retire_cluster.api import pagination
from retire_cluster.postgres import waits
from tasks import history, placement, statistics, sweep
from tasks.models import Attempt, Profile, Task
from tests.factories import START, make_device

pytestmark = pytest.mark.django_db

TASKS = 100_000
QUEUED, RUNNING = 1000, 10
EVERY = {"failed": 50, "urgent": 100, "rare": 1000, "devices": 20}

# As in a cluster that worked for a day: nearly all succeeded, a few wait or run, a type and a priority are rare.
_ROWS = f"""
    INSERT INTO tasks_task (
        id, task_type, priority, payload, requirements, metadata, timeout_s, max_retries, on_device_loss,
        submitted_by, created_at, status, round, attempt_no, rank, ready_at, cancel_requested_by, failures,
        losses, avoid_device, device_id, finished_at, version, profile_id,
        progress_message)
    SELECT {{id}},
        CASE WHEN n % {EVERY["rare"]} = 9 THEN 'rare' WHEN n % 3 = 0 THEN 'sleep' ELSE 'echo' END,
        CASE WHEN n % {EVERY["urgent"]} = 0 THEN 'urgent' WHEN n % 20 = 1 THEN 'high' ELSE 'normal' END,
        '{{{{"message":"Hello World"}}}}', '{{{{}}}}', '{{{{}}}}', 300, 0, 'requeue', '', {{created}},
        CASE WHEN n > {TASKS - QUEUED} THEN 'queued' WHEN n > {TASKS - QUEUED - RUNNING} THEN 'running'
             WHEN n % {EVERY["failed"]} = 0 THEN 'failed' ELSE 'success' END,
        1, 1, n, {{created}}, '', 0, 0, '',
        CASE WHEN n > {TASKS - QUEUED} THEN '' ELSE 'device-' || (n % {EVERY["devices"]}) END,
        CASE WHEN n > {TASKS - QUEUED - RUNNING} THEN NULL ELSE {{created}} END, 1, {{profile}}, ''
    FROM {{numbers}}
"""
# One for each task that was given to a device; the leases end a minute after START.
_ATTEMPTS = """
    INSERT INTO tasks_attempt (
        id, task_id, round, no, device_id, session, state, outcome, reason, slots, memory_mb, storage_mb,
        lease_until, offered_at, accepted_at, ended_at, error_code, error_message, error_traceback, late)
    SELECT id, id, 1, 1, device_id, 1,
        CASE WHEN status = 'running' THEN 'running' ELSE 'ended' END,
        CASE WHEN status = 'running' THEN '' ELSE status END,
        '', 1, 0, 0, '2026-01-01 12:01:00', created_at, created_at, finished_at, '', '', '', ''
    FROM tasks_task WHERE status <> 'queued'
"""
_SQLITE = {
    "id": "printf('%012x%020x', n, n)",
    "created": "datetime('2026-01-01 12:00:00', '+' || n || ' seconds')",
    "numbers": f"""(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {TASKS})
        SELECT n FROM c)""",
}
_POSTGRES = {
    "id": "(lpad(to_hex(n), 12, '0') || lpad(to_hex(n), 20, '0'))::uuid",
    "created": "timestamptz '2026-01-01 12:00:00Z' + n * interval '1 second'",
    "numbers": f"generate_series(1, {TASKS}) AS n",
}


@pytest.fixture(scope="module", autouse=True)
def _a_day_s_tasks(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The rows, made in one statement, for all tests here."""
    with django_db_blocker.unblock():
        profile = Profile.objects.create(
            digest="0" * 64, task_type="echo", requirements={}, last_used_at=START
        )
        words = _SQLITE if connection.vendor == "sqlite" else _POSTGRES
        # As long as a migration may take: other tests have set the limit of a process that serves.
        with waits.at_most(100), connection.cursor() as cursor:
            for number in range(EVERY["devices"]):
                make_device(f"device-{number}", metrics={"cpu_percent": 1.0})
            cursor.execute(_ROWS.format(**words, profile=profile.pk))
            cursor.execute(_ATTEMPTS)
            if connection.vendor == "postgresql":
                cursor.execute("VACUUM ANALYZE tasks_task, tasks_attempt")
        yield
        for model in (Attempt, Task, Presence, Device):
            model._default_manager.all()._raw_delete("default")
        profile.delete()


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    pagination.totals.forget()
    statistics.forget_cached()
    history.forget_cached()


def ask(query: str) -> Any:
    answer = Client(SERVER_NAME="localhost").get(f"/api/v1/tasks?{query}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def statements(query: str) -> tuple[int, list[str]]:
    """How many rows a list shows, and what it asks of the database once its total is known."""
    ask(query)
    with CaptureQueriesContext(connection) as queries:
        rows = ask(query)["data"]
    return len(rows), [item["sql"] for item in queries]


def plan(sql: str) -> list[str]:
    """The steps of a statement, as the database names them."""
    with connection.cursor() as cursor:
        how = "QUERY PLAN" if connection.vendor == "sqlite" else "(GENERIC_PLAN)" if "$1" in sql else ""
        cursor.execute(f"EXPLAIN {how} {sql}")
        return [str(row[-1]) for row in cursor.fetchall()]


def reads_the_table(steps: list[str], table: str = "tasks_task") -> list[str]:
    """The steps that go through the tasks, or another table, without an index."""
    if connection.vendor == "sqlite":
        return [step for step in steps if table in step and " INDEX " not in step]
    return [step for step in steps if f"Seq Scan on {table}" in step]


def sorts(steps: list[str]) -> list[str]:
    """The steps that sort; on Postgres, more rows than are counted: some matches it may rather collect and sort."""
    if connection.vendor == "sqlite":
        return [step for step in steps if "TEMP B-TREE" in step]
    sizes = [(step, re.search(r"Sort .*rows=(\d+)", step)) for step in steps]
    return [step for step, size in sizes if size and int(size[1]) > pagination.MAX_COUNTED]


def deep_cursor() -> str:
    """The position after the row in the middle of the table."""
    row = Task.objects.newest()[TASKS // 2]
    return f"cursor={pagination.encode_cursor(row.created_at, row.pk)}"


RANGE = "created_after=2026-01-01T20:00:00Z&created_before=2026-01-01T21:00:00Z"
ONE_VALUE = [
    "",
    "status=queued",
    "status=running",
    "status=failed",
    "status=success",
    "status=timeout",
    "task_type=rare",
    "task_type=nobody",
    "priority=urgent",
    "priority=low",
    "device_id=device-3",
    "device_id=nobody",
    RANGE,
    "status=queued&priority=urgent",
    "status=failed&task_type=rare",
    "status=success&task_type=rare",
    "device_id=device-9&task_type=rare",
    "device_id=device-0&status=failed&priority=urgent",
    f"{RANGE}&status=failed",
    f"{RANGE}&device_id=device-3",
    f"{RANGE}&task_type=rare&priority=normal",
]
SEVERAL_VALUES = [
    "status=running,assigned",
    "status=success,failed",
    "task_type=rare,nobody",
    "device_id=device-3,device-4",
]
PLACES = ["page=1", "page=3", "cursor=", "deep cursor"]


def told(number: int) -> dict[str, str]:
    """What the statement above makes of the row with this number."""
    waits, ended = number > TASKS - QUEUED, number <= TASKS - QUEUED - RUNNING
    outcome = "success" if number % EVERY["failed"] else "failed"
    return {
        "task_type": "rare" if number % EVERY["rare"] == 9 else "echo" if number % 3 else "sleep",
        "priority": "high" if number % 20 == 1 else "normal" if number % EVERY["urgent"] else "urgent",
        "status": outcome if ended else "queued" if waits else "running",
        "device_id": "" if waits else f"device-{number % EVERY['devices']}",
    }


@cache
def day() -> list[tuple[str, dict[str, str]]]:
    """(moment, what is told) of every row."""
    moments = ((START + timedelta(seconds=number)).isoformat()[:19] + "Z" for number in range(1, TASKS + 1))
    return list(zip(moments, map(told, range(1, TASKS + 1)), strict=True))


def matching(query: str) -> int:
    """How many rows a query is about."""
    wanted = {name: values[0].split(",") for name, values in parse_qs(query).items()}
    since, until = (wanted.pop(name, [""])[0] for name in ("created_after", "created_before"))
    return sum(
        since <= moment
        and (not until or moment < until)
        and all(row[name] in wanted[name] for name in wanted)
        for moment, row in day()
    )


@pytest.mark.parametrize("query", [*ONE_VALUE, *SEVERAL_VALUES])
def test_the_total_is_what_there_is(query: str) -> None:
    page = ask(f"{query}&page_size=50")["pagination"]

    assert page["total_items"] == matching(query)
    assert page["total_pages"] == -(-matching(query) // 50)


@pytest.mark.parametrize("query", [*ONE_VALUE, *SEVERAL_VALUES])
def test_a_page_costs_two_statements_at_most_and_reads_no_table(query: str) -> None:
    knows_its_total = matching(query) > pagination.SURELY_LARGE
    for place in PLACES:
        where = deep_cursor() if place == "deep cursor" else place
        rows, asked = statements(f"{query}&page_size=50&{where}")
        steps = [step for sql in asked for step in plan(sql)]

        assert len(asked) == (1 if "cursor" in place or not rows or knows_its_total else 2), place
        assert reads_the_table(steps) == [], place
        if query in ONE_VALUE:
            assert sorts(steps) == [], place
        if query:  # a range of the index that fits the filter, not all of the one that has the order
            assert [step for step in steps if step.startswith("SCAN tasks_task")] == [], place


def test_a_total_beyond_ten_thousand_is_counted_once_in_a_while() -> None:
    with CaptureQueriesContext(connection) as first:
        ask("status=success")
    at_first = len(first)
    rows, then = statements("status=success")

    assert (at_first, len(then), rows) == (3, 1, 20)
    assert all("LIMIT" in sql for sql in then)


def test_the_statistics_walk_indexes_and_sort_nothing() -> None:
    with CaptureQueriesContext(connection) as queries:
        found = statistics.queue_stats()

    steps = [step for item in queries for step in plan(item["sql"])]
    assert found["by_status"]["queued"] == found["total_tasks"] - sum(found["by_device"].values()) == QUEUED
    assert found["by_priority"]["urgent"] == matching("priority=urgent")
    assert sorts(steps) == []
    assert connection.vendor == "postgresql" or all("USING COVERING INDEX" in step for step in steps)


def test_looking_for_work_uses_the_queue_s_own_index() -> None:
    """An index that begins with the status must not draw the scheduler away from it."""
    with CaptureQueriesContext(connection) as queries:
        [head] = placement.heads()
        due = sweep.due(START)

    steps = plan(queries[0]["sql"])
    tables = [step for step in steps if "tasks_task" in step]
    assert (head[1], due) == (TASKS - QUEUED + 1, False)
    assert tables
    assert [step for step in tables if "task_queue" not in step] == []
    assert [step for item in queries for step in reads_the_table(plan(item["sql"]))] == []


# --- the dashboard --------------------------------------------------------------------------------------------

PAGES = [
    "/",
    "/devices/",
    "/devices/?view=table",
    "/devices/device-3/",
    "/tasks/",
    "/tasks/?status=queued",
    "/tasks/?status=failed",
    "/tasks/?device_id=device-3",
    "/tasks/ID/",
    "/submit/",
    "/activity/",
]
LIVE = "NOT (state = 'ended')"
FEW = 6  # moments a page asks the database's clock for


def page(path: str) -> list[str]:
    """What a page asks of the database but for the counts of all tasks, which have a test of their own."""
    statistics.queue_stats()
    if "ID" in path:
        path = path.replace("ID", str(Task.objects.filter(status="queued").latest("created_at").pk))
    with CaptureQueriesContext(connection) as queries:
        answer = Client(SERVER_NAME="localhost", headers={"Accept": "text/html"}).get(path)
    assert answer.status_code == 200, answer.content[:500]
    return [item["sql"] for item in queries if "SAVEPOINT" not in item["sql"]]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_reads_no_table(path: str) -> None:
    asked = page(path)
    clock = [sql for sql in asked if "clock_timestamp" in sql]
    steps = [step for sql in asked if sql not in clock for step in plan(sql)]

    assert reads_the_table(steps) == []
    assert reads_the_table(steps, "tasks_attempt") == []
    assert len(clock) <= FEW


@pytest.mark.parametrize("path", ["/", "/devices/", "/devices/device-3/"])
def test_what_runs_is_found_without_what_ever_ran(path: str) -> None:
    """SQLite would rather walk over all attempts of the devices asked about. Placement asks the same."""
    live = [sql for sql in page(path) if LIVE in sql.replace('"', "").replace("tasks_attempt.", "")]
    steps = [step for sql in live for step in plan(sql) if "tasks_attempt" in step]

    assert steps
    assert [step for step in steps if "attempt_by_device" in step] == []
