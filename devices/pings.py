"""Round trips to devices: a row is the wish, the gateway that owns the device measures and writes the answer.

The row crosses processes through the database; within one process the hint and the waiters make it immediate.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from devices.models import Ping
from retire_cluster import hints
from retire_cluster.db import write_transaction
from retire_cluster.waiters import Waiters

ANSWER_WITHIN_S = 5.0
NO_ANSWER = f"the device did not answer within {ANSWER_WITHIN_S:g} s"
# A gateway that was away sends no ping whose caller has gone.
STILL_WANTED = timedelta(seconds=ANSWER_WITHIN_S)


def _ended(ping_ids: Sequence[UUID]) -> Iterable[UUID]:
    return Ping.objects.filter(id__in=ping_ids, ended_at__isnull=False).values_list("id", flat=True)


waiters = Waiters("pings", _ended)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a ping ended; `response_time_ms` is None and `failure` says why when there was no answer."""

    requested_at: datetime
    response_time_ms: float | None
    failure: str


# --- for whoever asks -----------------------------------------------------------------------------------------


def new_id() -> UUID:
    """The id of a ping to come, so that its caller can wait for it before it exists."""
    return uuid4()


def request(ping_id: UUID, device_id: str, *, now: datetime) -> None:
    """Ask the gateway that owns the device for a round trip."""
    with write_transaction():
        Ping.objects.create(id=ping_id, device_id=device_id, requested_at=now)
    hints.notify(hints.INTENT)


def outcome(ping_id: UUID, *, patience_s: float, now: datetime) -> Outcome:
    """How the ping ended, waiting so long for it; then it is given up."""
    with waiters.register(ping_id) as waiter:
        row = Ping.objects.get(id=ping_id)
        if row.ended_at is None and patience_s > 0:
            waiter.wait(patience_s)
            row.refresh_from_db()
    if row.ended_at is None and not fail(ping_id, NO_ANSWER, now=now):
        row.refresh_from_db()  # answered at this very moment
    return Outcome(
        row.requested_at, row.response_time_ms, row.failure if row.ended_at is not None else NO_ANSWER
    )


def last_response_time_ms(device_id: str) -> float | None:
    """The last round trip that was measured; None when there was none within a day. One query."""
    answered = Ping.objects.filter(device_id=device_id, response_time_ms__isnull=False)
    return answered.order_by("-ended_at").values_list("response_time_ms", flat=True).first()


# --- for the gateway ------------------------------------------------------------------------------------------


def wanted(device_ids: Collection[str], *, now: datetime) -> list[tuple[UUID, str]]:
    """(ping, device) of the open pings of these devices. One query, on a partial index that is nearly empty."""
    recent = Ping.objects.filter(ended_at=None, requested_at__gt=now - STILL_WANTED)
    return [row for row in recent.values_list("id", "device_id") if row[1] in device_ids]


def answer(ping_id: UUID, device_id: str, response_time_ms: float, *, now: datetime) -> bool:
    """The device answered. False when the ping is not its own, or has ended."""
    mine = Ping.objects.filter(id=ping_id, device_id=device_id, ended_at=None)
    return bool(mine.update(ended_at=now, response_time_ms=round(response_time_ms, 3)))


def fail(ping_id: UUID, reason: str, *, now: datetime) -> bool:
    """There will be no answer. False when the ping has ended already."""
    with write_transaction():
        found = Ping.objects.filter(id=ping_id, ended_at=None)
        return bool(found.update(ended_at=now, failure=reason[:500]))
