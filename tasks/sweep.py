"""The sweep: finds by itself whatever a lost message, a dead device or a dead process left behind.

Every gateway sweeps each second, in its committer; Celery may sweep too. Expiry is a conditional update, so two
sweepers are harmless. Judging by the clock is only allowed while the clock can be trusted: see Watch.
"""

import time
from datetime import datetime, timedelta

from django.db import OperationalError
from django.db.models import Q, QuerySet

from clusterconfig import services as config
from devices import services as devices
from devices.models import Device
from retire_cluster import bulk, db, hints
from retire_cluster.protocol.states import TaskStatus
from tasks import placement, reservations, rules, waiting
from tasks.lifecycle import Ledger, LostRace
from tasks.models import Attempt, Task
from tasks.scheduling.planner import has_room

PERIOD_S = 1.0
ELSEWHERE_PERIOD_S = 5.0  # Celery beat's
FLOOR_S = 30.0  # after a blind pass every live lease lasts at least so long
DRIFT_S = 5.0  # clock and monotonic time may differ so much between two passes
MAX_BACKOFF = timedelta(seconds=rules.RETRY_BACKOFF_CAP_S)
BATCH = 500


class Watch:
    """Whether this pass may judge by the clock.

    Blind on the first pass, when the clock jumped against monotonic time, and when the pass is late: boots
    without a clock, suspended machines, failovers and stopped processes must not expire anybody's lease.
    """

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._late_after_s = period_s + DRIFT_S
        self._last: tuple[datetime, float] | None = None

    def blind(self, now: datetime, monotonic: float) -> bool:
        last, self._last = self._last, (now, monotonic)
        if last is None:
            return True
        waited = monotonic - last[1]
        drift = abs((now - last[0]).total_seconds() - waited)
        return drift > DRIFT_S or waited > self._late_after_s


def due(now: datetime) -> bool:
    """Whether judging would change anything: four index look-ups, no lock, no write."""
    live, pending = Attempt.objects.filter(~Q(state="ended")), Task.objects.filter(status=TaskStatus.PENDING)
    return (
        live.filter(Q(lease_until__lt=now) | Q(lease_until__gt=now + _longest_lease())).exists()
        or pending.filter(Q(ready_at__lte=now) | Q(ready_at__gt=now + MAX_BACKOFF)).exists()
    )


def floor_leases(ledger: Ledger) -> None:
    """Blind pass: judge nothing, give every live lease at least FLOOR_S, pull ranks from the future down to now."""
    floor = ledger.now + timedelta(seconds=FLOOR_S)
    short = Attempt.objects.filter(~Q(state="ended"), lease_until__lt=floor)
    for pair in _load(ledger, short):
        step = rules.renew(*pair, until=floor)
        if step:
            ledger.put(step)
    ahead = int(ledger.now.timestamp() * 1_000_000)
    Task.objects.filter(status__in=[TaskStatus.PENDING, TaskStatus.QUEUED], rank__gt=ahead).update(rank=ahead)


def judge(ledger: Ledger) -> list[tuple[str, int]]:
    """Expire leases that ran out, end back-offs, and cap both to what can be meant.

    Returns (device, session) of every offer nobody answered.
    """
    _cap(ledger)
    unanswered = _expire(ledger)
    _end_backoffs(ledger)
    return unanswered


def bury_silent_gateways(ledger: Ledger) -> None:
    """Devices of a gateway that died are offline; what they run gets time to come back through another one."""
    silent = devices.silent_gateways(now=ledger.now)
    sessions = {device_id: number for held in silent.values() for device_id, number in held.items()}
    ledger.load_live_of(sessions)
    until = ledger.now + timedelta(seconds=FLOOR_S)
    for device_id, number in sessions.items():
        for task, attempt in ledger.pairs_of(device_id).values():
            step = rules.shorten(task, attempt, session=number, until=until)
            if step:
                ledger.put(step)
    for gateway_id in silent:
        devices.bury_gateway(gateway_id, now=ledger.now)


def _expire(ledger: Ledger) -> list[tuple[str, int]]:
    limit = config.current().scheduler.max_device_losses
    unanswered: list[tuple[str, int]] = []
    # Whose rows are held is just being heard of, or judged by another sweep; if not, the next pass sees it.
    expired = Attempt.objects.filter(~Q(state="ended"), lease_until__lt=ledger.now)
    for task, attempt in _load(ledger, expired, lock="skip"):
        offered = attempt.accepted_at is None
        reason = "the device did not answer the offer" if offered else "the device was not heard of in time"
        step = rules.lose(task, attempt, reason=reason, now=ledger.now, max_losses=limit)
        if step:
            ledger.put(step)
        if step and offered:
            unanswered.append((attempt.device_id, attempt.session))
    return unanswered


def _cap(ledger: Ledger) -> None:
    """A lease or back-off further ahead than any rule sets it comes from a clock that was wrong."""
    longest = ledger.now + _longest_lease()
    Attempt.objects.filter(~Q(state="ended"), lease_until__gt=longest).update(lease_until=longest)
    latest = ledger.now + MAX_BACKOFF
    Task.objects.filter(status=TaskStatus.PENDING, ready_at__gt=latest).update(ready_at=latest)


def _end_backoffs(ledger: Ledger) -> None:
    over = Task.objects.filter(status=TaskStatus.PENDING, ready_at__lte=ledger.now).order_by("ready_at")
    for row in ledger.load_tasks(over.values_list("id", flat=True)[:BATCH]):
        moved = rules.ready(row, now=ledger.now)
        if moved:
            ledger.put_task(moved)


def _load(
    ledger: Ledger, found: QuerySet[Attempt], *, lock: bulk.Lock = "wait"
) -> list[tuple[rules.TaskRow, rules.AttemptRow]]:
    """Lock what was found, oldest lease first, then look again: it may have changed before the lock was ours."""
    ids = list(found.order_by("lease_until").values_list("id", flat=True)[:BATCH])
    ledger.load_attempts(ids, lock=lock)
    pairs = (ledger.pair(attempt_id) for attempt_id in ids)
    return [pair for pair in pairs if pair is not None and pair[1].live]


def _longest_lease() -> timedelta:
    return timedelta(seconds=max(FLOOR_S, config.current().heartbeat.silence) + DRIFT_S)


# --- outside a gateway ----------------------------------------------------------------------------------------

_watch = Watch(period_s=ELSEWHERE_PERIOD_S)


def run_elsewhere() -> int:
    """One pass in a process that owns no device. Returns the number of tasks it changed."""
    if _watch.blind(db.now(), time.monotonic()):
        return 0  # the gateways floor the leases; without any gateway nothing can be placed anyway
    if not due(db.now()) and not devices.silent_gateways(now=db.now()):
        return 0
    try:
        ledger, changed = _pass()
    except (LostRace, OperationalError) as error:
        if isinstance(error, OperationalError) and not db.is_deadlock(error):
            raise
        return 0  # a gateway works on the same rows; the next pass sees what is left
    waiting.ended(ledger.finished)
    if changed:
        hints.notify()
    return changed


def _pass() -> tuple[Ledger, int]:
    with db.write_transaction():
        ledger = Ledger(db.now())
        judge(ledger)
        bury_silent_gateways(ledger)
        changed = len(ledger.changed_tasks())
        ledger.flush()
    return ledger, changed


def placeable() -> int:
    """How many profiles have queued tasks that a connected device with room could take now."""
    matcher = placement.Matcher()
    profiles = matcher.load(profile_id for profile_id, _ in placement.heads())
    used = reservations.taken()
    views = [
        reservations.with_free(reservations.view_of(device), used.get(device.id, reservations.NOTHING))
        for device in Device.objects.in_service()
    ]
    return sum(
        any(matcher.fits(profile_id, view.signature) and has_room(profile, view) for view in views)
        for profile_id, profile in profiles.items()
    )
