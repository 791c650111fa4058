"""What the pictures of the dashboard are drawn from."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks import history
from tasks.history import Depth
from tasks.models import Attempt, QueueSample
from tests.factories import START, make_attempt, make_device, make_task

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    history.forget_cached()


def test_the_depth_is_written_where_it_changed() -> None:
    assert not history.note_depth(START)  # nothing was ever there
    make_task()
    make_task(status="pending")
    make_task(status="running")
    written = [history.note_depth(START + n * MINUTE) for n in range(3)]
    make_task()

    assert written == [True, False, False]
    assert history.note_depth(START + 3 * MINUTE)
    assert history.depths(START, START + 10 * MINUTE) == [
        Depth(START, 2, 1),
        Depth(START + 3 * MINUTE, 3, 1),
    ]


def test_of_two_gateways_one_writes_a_minute() -> None:
    QueueSample.objects.create(at=START, waiting=5, running=0)
    make_task()

    history.note_depth(START + timedelta(seconds=30))

    assert QueueSample.objects.get().waiting == 5


def test_a_picture_begins_with_how_it_was_before() -> None:
    QueueSample.objects.create(at=START - 5 * MINUTE, waiting=7, running=2)
    QueueSample.objects.create(at=START - 4 * MINUTE, waiting=3, running=2)

    assert history.depths(START, START + MINUTE) == [Depth(START, 3, 2)]


def test_what_ended_is_counted_by_minute_and_outcome() -> None:
    device = make_device()
    for seconds, outcome in ((0, "success"), (59, "success"), (60, "failed"), (-1, "lost")):
        task = make_task(status="success")
        make_attempt(task, device, outcome=outcome, ended_at=START + timedelta(seconds=seconds))

    found = history.ended_by_minute(START + timedelta(seconds=30))

    assert found == {START: {"success": 2}, START + MINUTE: {"failed": 1}}


def test_bars_are_what_runs_and_what_ended_since() -> None:
    nuc, phone = make_device("nuc"), make_device("phone")
    running = make_task(status="running")
    make_attempt(running, nuc, accepted_at=None, state="offered")
    make_attempt(make_task(status="success"), phone, outcome="lost", ended_at=START)
    make_attempt(make_task(status="success"), nuc, outcome="success", ended_at=START - MINUTE)

    found = history.bars(START)

    assert [(bar.device_id, bar.outcome) for bar in found] == [("nuc", ""), ("phone", "lost")]
    assert found[0].began_at == START  # when it was offered
    assert [bar.device_id for bar in history.bars(START, ["phone"])] == ["phone"]


@pytest.mark.parametrize("ask", ["bars", "ended", "of a device"])
def test_pictures_are_drawn_from_an_index(ask: str) -> None:
    device = make_device("nuc")
    for _ in range(3):
        make_attempt(make_task(status="success"), device, outcome="success")
    with CaptureQueriesContext(connection) as queries:
        if ask == "bars":
            history.bars(START)
        elif ask == "ended":
            history.ended_by_minute(START)
        else:
            list(Attempt.objects.filter(device=device).order_by("-offered_at")[:5])
    for query in queries.captured_queries:
        assert not _reads_attempts(query["sql"]), query["sql"]


def _reads_attempts(sql: str) -> list[str]:
    """The steps that go through all attempts; on PostgreSQL with so few rows only when it may not do without."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        else:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {sql}")
        steps: list[Any] = [str(row[-1]) for row in cursor.fetchall()]
    if connection.vendor == "sqlite":
        return [step for step in steps if "tasks_attempt" in step and " INDEX " not in step]
    return [step for step in steps if "Seq Scan on tasks_attempt" in step]
