"""Deletes history that is older than the configuration wants it kept, in batches that hold no lock for long."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from clusterconfig import services as config
from clusterconfig.models import AuditEntry
from devices.models import MetricsSample, Ping
from retire_cluster import db
from retire_cluster.events import numbering, outbox
from retire_cluster.protocol.states import TERMINAL
from tasks.models import IdempotencyKey, OutputChunk, QueueSample, Task

BATCH = 500  # rows in one transaction
IDEMPOTENCY_KEPT = timedelta(hours=24)  # what clients are promised
PINGS_KEPT = timedelta(days=1)


def run(now: datetime) -> dict[str, int]:
    """Delete what is due. Returns how many rows of each kind; attempts and output go with their tasks."""
    while numbering.number():  # where nobody follows the events, nobody has numbered them
        pass
    return {
        name: _delete_output(found) if isinstance(found, Output) else _delete(found)
        for name, found in _due(now).items()
    }


def count(now: datetime) -> dict[str, int]:
    """How many rows of each kind `run` would delete now. Reads all output, which has no index by time."""
    return {
        name: OutputChunk.objects.filter(at__lt=found.before).count()
        if isinstance(found, Output)
        else found.count()
        for name, found in _due(now).items()
    }


@dataclass(frozen=True, slots=True)
class Output:
    """What tasks printed before a moment."""

    before: datetime


def _due(now: datetime) -> dict[str, QuerySet[Any] | Output]:
    """What is older than it is to be kept, by kind."""
    kept = config.current().retention
    return {
        "tasks": _ended_tasks(now - timedelta(days=kept.tasks_days)),
        "output": Output(now - timedelta(days=kept.output_days)),
        "queue_samples": QueueSample.objects.filter(at__lt=now - timedelta(days=kept.metrics_days)),
        "metrics": MetricsSample.objects.filter(start__lt=now - timedelta(days=kept.metrics_days)),
        "audit": AuditEntry.objects.filter(at__lt=now - timedelta(days=kept.audit_days)),
        "idempotency_keys": IdempotencyKey.objects.filter(created_at__lt=now - IDEMPOTENCY_KEPT),
        "events": outbox.prunable(),
        "pings": Ping.objects.filter(requested_at__lt=now - PINGS_KEPT),
    }


def _ended_tasks(before: datetime) -> QuerySet[Any]:
    """Tasks that ended before the moment. They were made before it too, which is what has an index."""
    return Task.objects.filter(created_at__lt=before, finished_at__lt=before, status__in=TERMINAL)


def _delete_output(due: Output) -> int:
    """Delete what was printed before the moment: ids grow with time, so no index by time is needed."""
    deleted = 0
    while True:
        with db.write_transaction():
            oldest = OutputChunk.objects.order_by("id").values_list("id", "at")[:BATCH]
            ids = [chunk_id for chunk_id, at in oldest if at < due.before]
            OutputChunk.objects.filter(id__in=ids).delete()
        deleted += len(ids)
        if len(ids) < BATCH:
            return deleted


def _delete(due: QuerySet[Any]) -> int:
    """Delete the rows, batch by batch; one that changes meanwhile, such as a task that is retried, stays."""
    deleted = 0
    while True:
        with db.write_transaction():
            found = list(
                due.order_by().select_for_update(skip_locked=not db.is_sqlite())[:BATCH].values("pk")
            )
            ids = [row["pk"] for row in found]
            due.model._default_manager.filter(pk__in=ids).only("pk").delete()
        deleted += len(ids)
        if len(ids) < BATCH:
            return deleted
