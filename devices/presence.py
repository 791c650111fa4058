"""Signs of life: kept in memory by the gateway, written in batches, read by the API.

On SQLite an idle cluster writes nothing, so the table may lag by minutes; in the gateway's own process the memory
is the fresher of the two, and readers get whichever is newer.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from devices.models import Presence
from retire_cluster.db import write_transaction


@dataclass(frozen=True, slots=True)
class PresenceView:
    """The latest sign of life of a device; metrics as reported, null means unknown."""

    last_seen: datetime
    heartbeats: int
    metrics: dict[str, Any]


_lock = threading.Lock()
_memory: dict[str, PresenceView] = {}
_changed: set[str] = set()


def note(device_id: str, metrics: dict[str, Any], *, now: datetime, heartbeat: bool) -> None:
    """Remember a sign of life. Metrics are merged over what was known only when there are any."""
    with _lock:
        known = _memory.get(device_id) or PresenceView(now, 0, {})
        _memory[device_id] = replace(
            known, last_seen=now, heartbeats=known.heartbeats + heartbeat, metrics=metrics or known.metrics
        )
        _changed.add(device_id)


def adopt_stored(device_id: str) -> None:
    """Continue counting where the table stopped, when a device connects to this gateway."""
    row = Presence.objects.filter(device_id=device_id).first()
    if row is not None:
        with _lock:
            _memory.setdefault(device_id, PresenceView(row.last_seen, row.heartbeats, row.metrics))


def flush(only: Iterable[str] | None = None) -> None:
    """Write what changed since the last flush; `only` limits it to some devices."""
    with _lock:
        due = _changed & set(only) if only is not None else set(_changed)
        views = {device_id: _memory[device_id] for device_id in due}
        _changed.difference_update(due)
    if not views:
        return
    rows = [
        Presence(
            device_id=device_id, last_seen=view.last_seen, heartbeats=view.heartbeats, metrics=view.metrics
        )
        for device_id, view in views.items()
    ]
    with write_transaction():
        Presence.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["device"],
            update_fields=["last_seen", "heartbeats", "metrics"],
        )


def forget(device_id: str) -> None:
    """The device left this gateway: the table speaks for it from now on."""
    with _lock:
        _memory.pop(device_id, None)
        _changed.discard(device_id)


def latest(device_ids: Iterable[str]) -> dict[str, PresenceView]:
    """The newest known sign of life per device; devices never heard of are missing. One query."""
    wanted = list(device_ids)
    views = {
        row.device_id: PresenceView(row.last_seen, row.heartbeats, row.metrics)
        for row in Presence.objects.filter(device_id__in=wanted)
    }
    with _lock:
        for device_id in wanted:
            fresh = _memory.get(device_id)
            if fresh and (device_id not in views or fresh.last_seen >= views[device_id].last_seen):
                views[device_id] = fresh
    return views
