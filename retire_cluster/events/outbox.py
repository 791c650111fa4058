"""Recording events: in the transaction of the change, so that neither is stored without the other."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from django.db import connection
from django.db.models import Q, QuerySet

from retire_cluster import bulk, db, hints
from retire_cluster.events.models import EventBatch

KEPT = timedelta(hours=24)  # who was away for longer begins anew
KEPT_ROWS = 200_000

# Every type there is; docs/reference/events.md describes what each carries.
TYPES: Final = frozenset(
    {
        "task.submitted",
        "task.pending",
        "task.queued",
        "task.assigned",
        "task.running",
        "task.cancelling",
        "task.progress",
        "task.output",
        "task.finished",
        "device.online",
        "device.offline",
        "device.changed",
        "device.removed",
        "cluster.gateway_started",
        "cluster.gateway_stopped",
        "config.changed",
    }
)

# Numbered as it is written: SQLite has one writer at a time, so rows are committed in the order of their ids.
_INSERT_NUMBERED = """
    INSERT INTO events_eventbatch (seq_from, count, events, created_at)
    SELECT COALESCE((SELECT seq_from + count FROM events_eventbatch ORDER BY id DESC LIMIT 1), 1), %s, %s, %s
"""


def record(kind: str, data: Mapping[str, Any]) -> None:
    """Tell whoever follows, once the running transaction is committed. The data is shown to everybody who may read.

    Of one write transaction all events are one row.
    """
    assert kind in TYPES, kind
    db.at_the_end(_store, (kind, dict(data)))


def _store(events: Sequence[tuple[str, dict[str, Any]]]) -> None:
    text = json.dumps(events, separators=(",", ":"))
    now = db.now()
    if db.is_sqlite():
        bulk.execute(_INSERT_NUMBERED, [len(events), text, connection.ops.adapt_datetimefield_value(now)])
    else:
        bulk.insert_rows(EventBatch, ("count", "events", "created_at"), [(len(events), text, now)])
    db.on_commit(partial(hints.notify, hints.NEWS))


def prunable() -> QuerySet[EventBatch]:
    """The rows nobody is promised any more. Never the newest number: the next one follows from it."""
    newest = EventBatch.objects.filter(seq_from__isnull=False).order_by("-seq_from").first()
    if newest is None:
        return EventBatch.objects.none()
    due = Q(created_at__lt=db.now() - KEPT) | Q(id__lte=newest.pk - KEPT_ROWS)
    return EventBatch.objects.filter(due, seq_from__lt=newest.seq_from)
