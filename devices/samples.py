"""What devices measured over the last days, for charts: a quarter of an hour of a device is one row.

The gateway adds up heartbeats in memory and only ever inserts: a device that changes the gateway within a quarter
has two rows for it, which readers put together. On SQLite all devices' rows of an hour are one transaction, so that
an SD card gets one write an hour; what a killed process had not written yet is lost. See decision 19.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from devices.models import MetricsSample
from retire_cluster.db import is_sqlite, write_transaction

QUARTER = timedelta(minutes=15)
HOUR = timedelta(hours=1)
# As devices report them; what only ever grows, or is the same as another, makes no chart.
MEASURED = ("cpu_percent", "memory_percent", "battery_percent", "temperature_c")
RUNNING = "running_tasks"  # as the gateway counts them
BATCH = 1000  # rows in one statement
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Spread:
    """Lowest, highest and mean of some numbers."""

    low: float
    high: float
    total: float
    count: int

    @property
    def mean(self) -> float:
        return self.total / self.count

    def add(self, value: float) -> None:
        if value < self.low:
            self.low = value
        elif value > self.high:
            self.high = value
        self.total += value
        self.count += 1

    def merge(self, other: "Spread") -> None:
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.total, self.count = self.total + other.total, self.count + other.count


@dataclass(slots=True)
class Quarter:
    """A device's quarter of an hour; a value it never told in this time is missing."""

    heartbeats: int = 0
    values: dict[str, Spread] = field(default_factory=dict)

    def note(self, values: Mapping[str, float]) -> None:
        """Add a heartbeat's values."""
        self.heartbeats += 1
        for name, value in values.items():
            spread = self.values.get(name)
            if spread is None:
                self.values[name] = Spread(value, value, value, 1)
            else:
                spread.add(value)

    def merge(self, other: "Quarter") -> None:
        self.heartbeats += other.heartbeats
        for name, spread in other.values.items():
            known = self.values.setdefault(name, Spread(spread.low, spread.high, 0.0, 0))
            known.merge(spread)


_lock = threading.Lock()
_memory: dict[tuple[str, datetime], Quarter] = {}  # by device and beginning
_flushes = 0


def note(device_id: str, metrics: Mapping[str, Any], *, running: int, now: datetime) -> None:
    """Remember a heartbeat. Metrics as reported; those that are missing are unknown."""
    values = {name: float(metrics[name]) for name in MEASURED if metrics.get(name) is not None}
    with _lock:
        key = device_id, _floor(now, QUARTER)
        quarter = _memory.get(key)
        if quarter is None:
            quarter = _memory[key] = Quarter()
        quarter.note({**values, RUNNING: float(running)})


def flush(now: datetime, *, unfinished: bool = False) -> int:
    """Write what is over: on SQLite hours, else quarters; `unfinished`: everything. Returns the rows written.

    For the thread that notes: it holds the lock meanwhile, so that nobody reads a quarter twice or not at all.
    """
    global _flushes
    over = _floor(now, HOUR if is_sqlite() else QUARTER)
    with _lock:
        due = sorted(key for key in _memory if unfinished or key[1] < over)
        if not due:
            return 0
        with write_transaction():
            rows = [_row(device_id, start, _memory[device_id, start]) for device_id, start in due]
            MetricsSample.objects.bulk_create(rows, batch_size=BATCH)
        for key in due:
            del _memory[key]
        _flushes += 1
    return len(due)


def read(device_id: str, *, since: datetime, until: datetime) -> dict[datetime, Quarter]:
    """A device's quarters that begin in [since, until), oldest first, from table and memory.

    One query; another one where a flush came between table and memory.
    """
    while True:
        flushes = _flushes
        rows = MetricsSample.objects.filter(device_id=device_id, start__gte=since, start__lt=until)
        found: dict[datetime, Quarter] = {}
        for row in rows.order_by("start"):
            found.setdefault(row.start, Quarter()).merge(_quarter(row))
        with _lock:
            if flushes != _flushes:
                continue
            for (owner, start), quarter in _memory.items():
                if owner == device_id and since <= start < until:
                    found.setdefault(start, Quarter()).merge(quarter)
        return dict(sorted(found.items()))


def forget() -> None:
    """Drop what is not written yet."""
    with _lock:
        _memory.clear()


def _floor(moment: datetime, span: timedelta) -> datetime:
    return moment - (moment - _EPOCH) % span


def _row(device_id: str, start: datetime, quarter: Quarter) -> MetricsSample:
    values = {
        name: [round(spread.low, 2), round(spread.mean, 2), round(spread.high, 2), spread.count]
        for name, spread in quarter.values.items()
    }
    return MetricsSample(device_id=device_id, start=start, heartbeats=quarter.heartbeats, values=values)


def _quarter(row: MetricsSample) -> Quarter:
    values = {
        name: Spread(low, high, mean * count, count) for name, (low, mean, high, count) in row.values.items()
    }
    return Quarter(row.heartbeats, values)
