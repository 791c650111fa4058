"""How the last hour went, for pictures: what waited and ran, what ended, which device worked on what.

The depth of the queue is nowhere to be read afterwards, so a gateway writes it down once a minute where it changed;
an idle cluster writes nothing. All else is read from the attempts, by their index on the end.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, F, Q
from django.db.models.functions import TruncMinute

from retire_cluster import bulk
from retire_cluster.api.remembered import Remembered
from retire_cluster.protocol.states import LIVE, TaskStatus
from tasks.lifecycle import LIVE_ATTEMPT, LIVE_INDEX
from tasks.models import Attempt, QueueSample, Task

MAX_BARS = 600  # attempts in one picture
_WAITING = (TaskStatus.PENDING, TaskStatus.QUEUED)
_ended: Remembered[dict[datetime, Counter[str]]] = Remembered()


@dataclass(frozen=True, slots=True)
class Depth:
    """What waited and ran from a moment on, until the next one."""

    at: datetime
    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class Bar:
    """An attempt in the picture; `ended_at` is None and `outcome` empty while it runs."""

    device_id: str
    task_id: str
    task_type: str
    number: int
    began_at: datetime
    ended_at: datetime | None
    outcome: str


def note_depth(now: datetime) -> bool:
    """Write down what waits and runs, unless it is as it was. For a gateway, once a minute; whether it wrote."""
    depth = depth_now(now)
    last = QueueSample.objects.order_by("-at").first()
    if last is None and not (depth.waiting or depth.running):
        return False
    if last is not None and (last.waiting, last.running) == (depth.waiting, depth.running):
        return False
    minute = now.replace(second=0, microsecond=0)
    # Another gateway may have been first in this minute.
    row = QueueSample(at=minute, waiting=depth.waiting, running=depth.running)
    QueueSample.objects.bulk_create([row], ignore_conflicts=True)
    return True


def depth_now(now: datetime) -> Depth:
    """What waits and runs. One query, from the index on the status."""
    counts: dict[str, int] = dict(
        Task.objects.order_by()
        .filter(status__in=[*_WAITING, *LIVE])
        .values_list("status")
        .annotate(count=Count("pk"))
    )
    waiting = sum(counts.get(status, 0) for status in _WAITING)
    return Depth(now, waiting, sum(counts.get(status, 0) for status in LIVE))


def depths(since: datetime, until: datetime) -> list[Depth]:
    """What waited and ran, oldest first; the first is as it was when `since` came. Two queries."""
    rows = list(QueueSample.objects.filter(at__gte=since, at__lt=until).order_by("at"))
    before = QueueSample.objects.filter(at__lt=since).order_by("-at").first()
    first = [Depth(since, before.waiting, before.running)] if before else []
    return [*first, *(Depth(row.at, row.waiting, row.running) for row in rows)]


def ended_by_minute(since: datetime) -> dict[datetime, Counter[str]]:
    """How many attempts ended in each minute, by outcome. One query over the index, remembered."""
    first = since.replace(second=0, microsecond=0)
    return _ended.get(first.isoformat(), lambda: _ended_since(first))


def _ended_since(first: datetime) -> dict[datetime, Counter[str]]:
    found: dict[datetime, Counter[str]] = {}
    rows: Any = (
        Attempt.objects.order_by()
        .filter(state="ended", ended_at__gte=first)
        .values(minute=TruncMinute("ended_at"), how=F("outcome"))
        .annotate(count=Count("pk"))
    )
    for row in rows:
        found.setdefault(row["minute"], Counter())[row["how"]] += row["count"]
    return found


def bars(since: datetime, device_ids: Sequence[str] | None = None) -> list[Bar]:
    """The attempts that ran at some time after `since`, the newest MAX_BARS of them. Two queries,
    three for named devices."""
    mine = Q() if device_ids is None else Q(device_id__in=device_ids)
    live = _rows(_live(device_ids).order_by("-offered_at"))
    over = _rows(Attempt.objects.filter(mine, state="ended", ended_at__gte=since).order_by("-ended_at"))
    return [*live, *over]


def _live(device_ids: Sequence[str] | None) -> Any:
    """What is offered or runs. Named devices by the index on it: SQLite would walk over all they ever did."""
    if device_ids is None:
        return Attempt.objects.filter(~Q(state="ended"))
    among = {"device_id": device_ids}
    found = bulk.select_rows(Attempt, ("id",), among, also=LIVE_ATTEMPT, index=LIVE_INDEX)
    return Attempt.objects.filter(pk__in=[attempt_id for (attempt_id,) in found])


def _rows(attempts: Any) -> list[Bar]:
    names = (
        "device_id",
        "task_id",
        "task__task_type",
        "no",
        "offered_at",
        "accepted_at",
        "ended_at",
        "outcome",
    )
    return [
        Bar(device_id, str(task_id), task_type, no, accepted_at or offered_at, ended_at, outcome)
        for device_id, task_id, task_type, no, offered_at, accepted_at, ended_at, outcome in (
            attempts.values_list(*names)[:MAX_BARS]
        )
    ]


def forget_cached() -> None:
    """Ask the database at the next call."""
    _ended.forget()
