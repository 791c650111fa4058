"""Signs of life: kept in memory by the gateway, written in batches, read by the API.

On SQLite an idle cluster writes nothing, so the table may lag by minutes; in the gateway's own process the memory
is the fresher of the two, and readers get whichever is newer. The history of metrics is written on Postgres only:
60 samples a device with each flush would wear out an SD card.
"""

import json
import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import Error

from devices.models import Presence
from retire_cluster import bulk
from retire_cluster.api.envelope import timestamp
from retire_cluster.db import is_sqlite, write_transaction

HISTORY = 60  # samples
BATCH = 1000  # rows in one statement: with full histories some 8 MB


@dataclass(frozen=True, slots=True)
class PresenceView:
    """The latest sign of life of a device; metrics as reported, null means unknown.

    `history` holds the latest metrics, oldest first, each with its `timestamp`.
    """

    last_seen: datetime
    heartbeats: int
    metrics: dict[str, Any]
    history: tuple[dict[str, Any], ...] = ()


@dataclass(slots=True)
class _Sign:
    """A device as this gateway remembers it.

    Samples are kept as JSON: each is written down some sixty times and hardly ever read.
    """

    last_seen: datetime
    heartbeats: int
    metrics: dict[str, Any]
    samples: deque[str] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def view(self, *, with_history: bool) -> PresenceView:
        history = tuple(map(json.loads, self.samples)) if with_history else ()
        return PresenceView(self.last_seen, self.heartbeats, self.metrics, history)


_lock = threading.Lock()
_memory: dict[str, _Sign] = {}
_changed: set[str] = set()


def note(device_id: str, metrics: dict[str, Any], *, now: datetime, heartbeat: bool) -> None:
    """Remember a sign of life. Metrics are merged over what was known only when there are any."""
    with _lock:
        sign = _memory.get(device_id)
        if sign is None:
            sign = _memory[device_id] = _Sign(now, 0, {})
        sign.last_seen = now
        sign.heartbeats += heartbeat
        if metrics:
            sign.metrics = metrics
            sign.samples.append(_sample(now, metrics))
        _changed.add(device_id)


def adopt_stored(device_ids: Collection[str]) -> None:
    """Continue counting where the table stopped, when devices connect to this gateway. One query, if any."""
    if not device_ids:
        return
    rows = list(Presence.objects.filter(device_id__in=device_ids))
    with _lock:
        for row in rows:
            if row.device_id not in _memory:
                samples = deque(map(json.dumps, _history(row)), maxlen=HISTORY)
                _memory[row.device_id] = _Sign(row.last_seen, row.heartbeats, row.metrics, samples)


def flush(only: Iterable[str] | None = None) -> None:
    """Write what changed since the last flush; `only` limits it to some devices. What fails is due again."""
    with _lock:
        due = _changed & set(only) if only is not None else set(_changed)
        # By id: two gateways may know the same device for a moment, and must not wait for each other.
        rows = [_row(device_id, _memory[device_id]) for device_id in sorted(due)]
        _changed.difference_update(due)
    try:
        for start in range(0, len(rows), BATCH):
            _write(rows[start : start + BATCH])
    except Error:
        with _lock:
            _changed.update(due & _memory.keys())
        raise


def _write(rows: Sequence[Sequence[Any]]) -> None:
    """On Postgres one statement, which needs no transaction around it."""
    columns = ("device", "last_seen", "heartbeats", "metrics", "history")
    with write_transaction() if is_sqlite() else nullcontext():
        bulk.store_rows(Presence, columns, columns[1:-1] if is_sqlite() else columns[1:], rows)


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
                views[device_id] = fresh.view(with_history=with_history)
    return views


def _stored(row: Presence, *, with_history: bool = True) -> PresenceView:
    """A row as a view."""
    if not with_history:
        return PresenceView(row.last_seen, row.heartbeats, row.metrics)
    return PresenceView(row.last_seen, row.heartbeats, row.metrics, tuple(_history(row)))


def _history(row: Presence) -> list[dict[str, Any]]:
    """Of a row whose history was never written, the latest metrics."""
    latest_only = [{"timestamp": timestamp(row.last_seen), **row.metrics}] if row.metrics else []
    return row.history or latest_only


def _sample(now: datetime, metrics: dict[str, Any]) -> str:
    return json.dumps({"timestamp": timestamp(now), **metrics})


def _row(device_id: str, sign: _Sign) -> tuple[Any, ...]:
    """As `_write` takes it."""
    history = "[]" if is_sqlite() else f"[{','.join(sign.samples)}]"
    return device_id, sign.last_seen, sign.heartbeats, sign.metrics, bulk.Encoded(history)
