"""The retention job: what is older than the configuration wants is deleted, whatever is needed stays."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from clusterconfig import audit, services
from clusterconfig.audit import SYSTEM
from clusterconfig.models import AuditEntry
from devices.models import MetricsSample, Ping
from retire_cluster import db
from tasks import retention
from tasks.jobs import delete_old
from tasks.models import Attempt, IdempotencyKey, OutputChunk, QueueSample, Task
from tests.factories import make_device, make_finished_task, make_task

pytestmark = pytest.mark.django_db(transaction=True)

NOW = timezone.now()
NOTHING = dict.fromkeys(
    ("tasks", "output", "queue_samples", "metrics", "audit", "idempotency_keys", "events", "pings"), 0
)


@pytest.fixture(autouse=True)
def _fresh_settings() -> None:
    services.forget_cached()


def ago(**time: float) -> dict[str, Any]:
    """Made and ended so long ago."""
    moment = NOW - timedelta(**time)
    return {"created_at": moment, "finished_at": moment}


def test_ended_tasks_go_with_their_attempts_once_they_are_old() -> None:
    device = make_device()
    make_finished_task(device, **ago(days=31))
    young = make_finished_task(device, **ago(days=29))
    ended_lately = make_finished_task(device, created_at=NOW - timedelta(days=90), finished_at=NOW)
    waiting = make_task(created_at=NOW - timedelta(days=90))

    assert retention.count(NOW) == {**NOTHING, "tasks": 1}
    assert retention.run(NOW) == {**NOTHING, "tasks": 1}

    assert set(Task.objects.values_list("id", flat=True)) == {young.pk, ended_lately.pk, waiting.pk}
    assert Attempt.objects.count() == 2
    assert retention.run(NOW) == NOTHING


def test_the_configuration_decides() -> None:
    make_finished_task(make_device(), **ago(days=2))
    services.change("retention", {"tasks_days": 1}, actor=SYSTEM, now=NOW)

    assert retention.run(NOW)["tasks"] == 1


def test_records_keys_and_pings_go_at_their_own_age() -> None:
    device = make_device()
    for days in (364, 366):
        audit.record("task.cancel", "x", actor=SYSTEM, now=NOW - timedelta(days=days))
    for hours in (23, 25):
        at = NOW - timedelta(hours=hours)
        IdempotencyKey.objects.create(client="c", key=f"{hours}", digest="0", task_ids=[], created_at=at)
        Ping.objects.create(device=device, requested_at=at)

    assert retention.run(NOW) == {**NOTHING, "audit": 1, "idempotency_keys": 1, "pings": 1}
    assert AuditEntry.objects.count() == IdempotencyKey.objects.count() == Ping.objects.count() == 1


def test_what_tasks_printed_goes_before_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    task = make_finished_task(make_device(), **ago(days=20))
    for number, days in enumerate([20, 20, 19, 18, 15, 13, 1]):
        row = {"attempt": 1, "number": number, "stream": "stdout", "text": "x"}
        OutputChunk.objects.create(task=task, offset=number, at=NOW - timedelta(days=days), **row)

    assert retention.count(NOW) == {**NOTHING, "output": 5}
    assert retention.run(NOW) == {**NOTHING, "output": 5}

    assert list(OutputChunk.objects.values_list("number", flat=True)) == [5, 6]
    assert Task.objects.filter(pk=task.pk).exists()


def test_what_devices_measured_goes_after_a_week(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    device = make_device()
    for days in (9, 8, 7.01, 6.99, 1):
        start = NOW - timedelta(days=days)
        MetricsSample.objects.create(device=device, start=start, heartbeats=1, values={})

    for days in (6, 8):
        QueueSample.objects.create(at=NOW - timedelta(days=days), waiting=1, running=0)

    assert retention.count(NOW) == {**NOTHING, "metrics": 3, "queue_samples": 1}
    assert retention.run(NOW) == {**NOTHING, "metrics": 3, "queue_samples": 1}

    assert MetricsSample.objects.count() == 2
    services.change("retention", {"metrics_days": 2}, actor=SYSTEM, now=NOW)
    assert retention.run(NOW) == {**NOTHING, "metrics": 1, "queue_samples": 1}


def test_more_than_a_batch_goes_in_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    device = make_device()
    for _ in range(7):
        make_finished_task(device, **ago(days=40))

    assert delete_old()["tasks"] == 7
    assert not Attempt.objects.exists()


def test_right_after_a_jump_of_the_clock_nothing_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    make_finished_task(make_device(), **ago(days=1))
    delete_old()
    true_now = db.now
    monkeypatch.setattr(db, "now", lambda: true_now() + timedelta(days=3652))
    assert delete_old() == {}
    assert Task.objects.count() == 1
    monkeypatch.setattr(db, "now", true_now)
    assert delete_old() == {}, "the way back is a jump, too"
    assert delete_old()["tasks"] == 0
