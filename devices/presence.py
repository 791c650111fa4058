"""Signs of life: kept in memory by the gateway, written in batches, read by the API.

On SQLite an idle cluster writes nothing, so the table may lag by minutes; in the gateway's own process the memory
is the fresher of the two, and readers get whichever is newer. The history of metrics is written on Postgres only:
60 samples a device with each flush would wear out an SD card.
"""

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import Error

from devices.models import Presence
from retire_cluster.api.envelope import timestamp
from retire_cluster.db import is_sqlite, write_transaction

HISTORY = 60  # samples


@dataclass(frozen=True, slots=True)
class PresenceView:
    """The latest sign of life of a device; metrics as reported, null means unknown.

    `history` holds the latest metrics, oldest first, each with its `timestamp`.
    """

    last_seen: datetime
    heartbeats: int
    metrics: dict[str, Any]
    history: tuple[dict[str, Any], ...] = ()


_lock = threading.Lock()
_memory: dict[str, PresenceView] = {}
_changed: set[str] = set()


def note(device_id: str, metrics: dict[str, Any], *, now: datetime, heartbeat: bool) -> None:
    """Remember a sign of life. Metrics are merged over what was known only when there are any."""
    with _lock:
        known = _memory.get(device_id) or PresenceView(now, 0, {})
        sample = ({"timestamp": timestamp(now), **metrics},) if metrics else ()
        _memory[device_id] = replace(
            known,
            last_seen=now,
            heartbeats=known.heartbeats + heartbeat,
            metrics=metrics or known.metrics,
            history=(*known.history, *sample)[-HISTORY:],
        )
        _changed.add(device_id)


def adopt_stored(device_ids: Collection[str]) -> None:
    """Continue counting where the table stopped, when devices connect to this gateway. One query, if any."""
    if not device_ids:
        return
    rows = list(Presence.objects.filter(device_id__in=device_ids))
    with _lock:
        for row in rows:
            _memory.setdefault(row.device_id, _stored(row))


def flush(only: Iterable[str] | None = None) -> None:
    """Write what changed since the last flush; `only` limits it to some devices. What fails is due again."""
    with _lock:
        due = _changed & set(only) if only is not None else set(_changed)
        views = {device_id: _memory[device_id] for device_id in due}
        _changed.difference_update(due)
    if not views:
        return
    try:
        _write(views)
    except Error:
        with _lock:
            _changed.update(due & _memory.keys())
        raise


def _write(views: Mapping[str, PresenceView]) -> None:
    keeps_history = not is_sqlite()
    # By id: two gateways may know the same device for a moment, and must not wait for each other.
    rows = [_row(device_id, view, keeps_history) for device_id, view in sorted(views.items())]
    changed = ["last_seen", "heartbeats", "metrics", *(["history"] if keeps_history else [])]
    with write_transaction():
        Presence.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["device"], update_fields=changed
        )


def forget(device_id: str) -> None:
    """The device left this gateway: the table speaks for it from now on."""
    with _lock:
        _memory.pop(device_id, None)
        _changed.discard(device_id)


def latest(device_ids: Iterable[str], *, with_history: bool = False) -> dict[str, PresenceView]:
    """The newest known sign of life per device; devices never heard of are missing. One query."""
    wanted = list(device_ids)
    rows = Presence.objects.filter(device_id__in=wanted)
    if not with_history:
        rows = rows.defer("history")
    views = {row.device_id: _stored(row, with_history=with_history) for row in rows}
    with _lock:
        for device_id in wanted:
            fresh = _memory.get(device_id)
            if fresh and (device_id not in views or fresh.last_seen >= views[device_id].last_seen):
                views[device_id] = fresh
    return views


def _stored(row: Presence, *, with_history: bool = True) -> PresenceView:
    """A row as a view; one whose history was never written has its latest metrics for it."""
    if not with_history:
        return PresenceView(row.last_seen, row.heartbeats, row.metrics)
    latest_only = [{"timestamp": timestamp(row.last_seen), **row.metrics}] if row.metrics else []
    return PresenceView(row.last_seen, row.heartbeats, row.metrics, tuple(row.history or latest_only))


def _row(device_id: str, view: PresenceView, keeps_history: bool) -> Presence:
    return Presence(
        device_id=device_id,
        last_seen=view.last_seen,
        heartbeats=view.heartbeats,
        metrics=view.metrics,
        history=list(view.history) if keeps_history else [],
    )
