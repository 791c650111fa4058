"""The life cycle of tasks and attempts as pure functions: rows in, rows out.

Nothing here reads a clock, a database or randomness, so the very same functions run in the gateway, in the API
and in the bounded model that checks every order of events. A function whose guard does not hold returns None (or
raises NotAllowed where a person asked): whoever loses a race changes nothing. lifecycle.py loads and stores rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from retire_cluster.protocol import jsontext
from retire_cluster.protocol.states import (
    AttemptState,
    DeviceLossPolicy,
    Outcome,
    TaskStatus,
    Verdict,
)

RETRY_BACKOFF_CAP_S = 300
DEVICE_LOST = "DEVICE_LOST"
NOT_STOPPED = "the agent did not stop it"
SILENCE_MARGIN_S = 5.0  # for the way and the disk, on top of what a time limit may be late

# Every change of status there is. Whatever is not here cannot happen, whoever asks.
TRANSITIONS: dict[str, tuple[frozenset[TaskStatus], frozenset[TaskStatus]]] = {
    "ready": (frozenset({TaskStatus.PENDING}), frozenset({TaskStatus.QUEUED})),
    "claim": (frozenset({TaskStatus.QUEUED}), frozenset({TaskStatus.ASSIGNED})),
    "accept": (frozenset({TaskStatus.ASSIGNED}), frozenset({TaskStatus.RUNNING})),
    "finish": (
        frozenset({TaskStatus.ASSIGNED, TaskStatus.RUNNING}),
        frozenset(
            {
                TaskStatus.SUCCESS,
                TaskStatus.FAILED,
                TaskStatus.TIMEOUT,
                TaskStatus.CANCELLED,
                TaskStatus.PENDING,
            }
        ),
    ),
    "lose": (
        frozenset({TaskStatus.ASSIGNED, TaskStatus.RUNNING}),
        frozenset({TaskStatus.QUEUED, TaskStatus.FAILED, TaskStatus.TIMEOUT, TaskStatus.CANCELLED}),
    ),
    "adopt": (frozenset({TaskStatus.QUEUED}), frozenset({TaskStatus.RUNNING})),
    "cancel": (frozenset({TaskStatus.PENDING, TaskStatus.QUEUED}), frozenset({TaskStatus.CANCELLED})),
    "retry": (
        frozenset({TaskStatus.FAILED, TaskStatus.TIMEOUT, TaskStatus.CANCELLED}),
        frozenset({TaskStatus.QUEUED}),
    ),
}


class IllegalTransition(AssertionError):
    """A rule tried a change of status that TRANSITIONS does not have: a defect, told with its story."""


class NotAllowed(Exception):
    """A person asked for something the task's state does not allow."""

    def __init__(self, action: str, status: TaskStatus) -> None:
        super().__init__(f"a task that is {status} cannot be {action}")
        self.status = status


class TaskRow(NamedTuple):
    """What the life cycle knows of a task. Times are the server's, aware, UTC."""

    id: UUID
    status: TaskStatus
    round: int
    attempt_no: int
    rank: int
    ready_at: datetime
    cancel_requested_at: datetime | None
    cancel_requested_by: str
    failures: int
    losses: int
    avoid_device: str
    device_id: str
    assigned_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    execution_s: float | None
    result_attempt: UUID | None
    version: int
    timeout_s: int
    max_retries: int
    on_device_loss: DeviceLossPolicy
    progress: float | None = None  # percent, as the running attempt says
    progress_message: str = ""


class AttemptRow(NamedTuple):
    """One try on one device; `id` is the lease token."""

    id: UUID
    task_id: UUID
    round: int
    no: int
    device_id: str
    session: int
    state: AttemptState
    outcome: Outcome | None
    reason: str
    confirmed: bool | None
    slots: int
    memory_mb: int
    storage_mb: int
    lease_until: datetime
    offered_at: datetime
    accepted_at: datetime | None
    ended_at: datetime | None
    ran_s: float | None
    result: str | None
    error_code: str
    error_message: str
    error_traceback: str
    late: str

    @property
    def live(self) -> bool:
        return self.state is not AttemptState.ENDED

    @property
    def reported(self) -> bool:
        """The agent itself said how it ended (the server may have ended it in the agent's absence)."""
        return self.ran_s is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An agent's word on how an attempt ended."""

    outcome: Outcome
    ran_s: float = 0.0
    result: str | None = None
    error_code: str = ""
    error_message: str = ""
    error_traceback: str = ""
    survivors: tuple[str, ...] = ()


class Step(NamedTuple):
    """What a rule decided: the new rows, and for a result the answer to the agent."""

    task: TaskRow
    attempt: AttemptRow
    verdict: Verdict | None = None


# --- the way to a device --------------------------------------------------------------------------------------


def claim(
    task: TaskRow,
    *,
    attempt_id: UUID,
    device_id: str,
    session: int,
    reservation: tuple[int, int, int],
    now: datetime,
    offer_s: float,
) -> Step | None:
    """Offer a queued task to a device. `reservation` is (slots, memory MB, storage MB)."""
    if task.status is not TaskStatus.QUEUED or task.cancel_requested_at is not None:
        return None
    slots, memory_mb, storage_mb = reservation
    attempt = AttemptRow(
        id=attempt_id,
        task_id=task.id,
        round=task.round,
        no=task.attempt_no + 1,
        device_id=device_id,
        session=session,
        state=AttemptState.OFFERED,
        outcome=None,
        reason="",
        confirmed=None,
        slots=slots,
        memory_mb=memory_mb,
        storage_mb=storage_mb,
        lease_until=now + timedelta(seconds=offer_s),
        offered_at=now,
        accepted_at=None,
        ended_at=None,
        ran_s=None,
        result=None,
        error_code="",
        error_message="",
        error_traceback="",
        late="",
    )
    moved = _move(
        task,
        "claim",
        TaskStatus.ASSIGNED,
        attempt_no=attempt.no,
        device_id=device_id,
        assigned_at=now,
        started_at=None,
        **_NO_PROGRESS,
    )
    return Step(moved, attempt)


def accept(task: TaskRow, attempt: AttemptRow, *, session: int, now: datetime, lease_s: float) -> Step | None:
    """The device runs it (or waits for `go`)."""
    if attempt.state is not AttemptState.OFFERED or attempt.session != session:
        return None
    return Step(
        _move(task, "accept", TaskStatus.RUNNING, started_at=now),
        attempt._replace(
            state=AttemptState.RUNNING, accepted_at=now, lease_until=now + timedelta(seconds=lease_s)
        ),
    )


def move(task: TaskRow, attempt: AttemptRow, *, session: int, now: datetime, lease_s: float) -> Step | None:
    """The device came back and still holds it: the attempt belongs to the new session."""
    if not attempt.live:
        return None
    lease = max(attempt.lease_until, now + timedelta(seconds=lease_s))
    return Step(task, attempt._replace(session=session, lease_until=lease))


def shorten(task: TaskRow, attempt: AttemptRow, *, session: int, until: datetime) -> Step | None:
    """The connection closed: the device gets until then to return. At-most-once tasks keep their lease."""
    if not attempt.live or attempt.session != session or until >= attempt.lease_until:
        return None
    if task.on_device_loss is DeviceLossPolicy.FAIL and attempt.accepted_at is not None:
        return None
    return Step(task, attempt._replace(lease_until=until))


def advance(
    task: TaskRow, attempt: AttemptRow, *, session: int, percent: float | None, message: str
) -> Step | None:
    """The attempt says how far it is."""
    if attempt.state is not AttemptState.RUNNING or attempt.session != session:
        return None
    moved = task._replace(progress=percent, progress_message=message, version=task.version + 1)
    return Step(moved, attempt)


def renew(task: TaskRow, attempt: AttemptRow, *, until: datetime) -> Step | None:
    """The device gave a sign of life and holds it."""
    if not attempt.live or until <= attempt.lease_until:
        return None
    return Step(task, attempt._replace(lease_until=until))


def adoptable(task: TaskRow, attempt: AttemptRow) -> bool:
    """The server gave the attempt up, nothing happened since, and the device holds it after all."""
    return (
        task.status is TaskStatus.QUEUED
        and task.cancel_requested_at is None
        and attempt.outcome in (Outcome.RETURNED, Outcome.LOST)
        and attempt.round == task.round
        and attempt.no == task.attempt_no
    )


def adopt(task: TaskRow, attempt: AttemptRow, *, session: int, now: datetime, lease_s: float) -> Step | None:
    """Take back an attempt that was given up, with the counted loss refunded."""
    if not adoptable(task, attempt):
        return None
    accepted_at = attempt.accepted_at or now
    moved = _move(
        task,
        "adopt",
        TaskStatus.RUNNING,
        losses=task.losses - (attempt.outcome is Outcome.LOST),
        avoid_device="",
        device_id=attempt.device_id,
        assigned_at=attempt.offered_at,
        started_at=accepted_at,
    )
    return Step(
        moved,
        attempt._replace(
            session=session,
            state=AttemptState.RUNNING,
            outcome=None,
            reason="",
            confirmed=None,
            accepted_at=accepted_at,
            ended_at=None,
            lease_until=now + timedelta(seconds=lease_s),
        ),
    )


# --- how an attempt ends --------------------------------------------------------------------------------------


def finish(task: TaskRow, attempt: AttemptRow, report: Report, *, now: datetime, jitter: float) -> Step:
    """Record an agent's result. `jitter` is uniform in [0.5, 1]. Never refuses: the verdict says what counted."""
    if attempt.live:
        return _record(task, attempt, report, now, jitter)
    if attempt.reported:
        return Step(task, attempt, Verdict.RECORDED)
    adopted = adopt(task, attempt, session=attempt.session, now=now, lease_s=0)
    if adopted:
        return _record(adopted.task, adopted.attempt, report, now, jitter)
    if not attempt.late:
        attempt = attempt._replace(late=_evidence(report, now), confirmed=True)
    return Step(task, attempt, Verdict.SUPERSEDED)


def _record(task: TaskRow, attempt: AttemptRow, report: Report, now: datetime, jitter: float) -> Step:
    outcome, confirmed, reason = report.outcome, True, ""
    if report.outcome is Outcome.SUCCESS:
        changes = _terminal(TaskStatus.SUCCESS, attempt, now)
        changes["progress"] = None if task.progress is None else 100.0
    elif report.outcome is Outcome.CANCELLED or task.cancel_requested_at is not None:
        outcome, confirmed = Outcome.CANCELLED, not report.survivors
        reason = f"still running: {', '.join(report.survivors)}"[:500] if report.survivors else "stopped"
        changes = _terminal(TaskStatus.CANCELLED, attempt, now)
    elif task.failures < task.max_retries:
        delay = min(RETRY_BACKOFF_CAP_S, 2 * 2.0 ** min(task.failures, 16)) * jitter
        changes = {
            "status": TaskStatus.PENDING,
            "failures": task.failures + 1,
            "ready_at": now + timedelta(seconds=delay),
            "avoid_device": attempt.device_id,
            **_NO_PROGRESS,
        }
    else:
        changes = {**_terminal(TaskStatus(report.outcome), attempt, now), "failures": task.failures + 1}
    ran_s = _ran_s(task, attempt, report, now)
    started_at = attempt.accepted_at or now - timedelta(seconds=ran_s)
    ended = attempt._replace(
        state=AttemptState.ENDED,
        outcome=outcome,
        reason=reason,
        confirmed=confirmed,
        accepted_at=started_at,
        ended_at=now,
        ran_s=ran_s,
        result=report.result,
        error_code=report.error_code,
        error_message=report.error_message,
        error_traceback=report.error_traceback,
    )
    moved = _move(task, "finish", **changes, started_at=started_at, execution_s=ran_s)
    return Step(moved, ended, Verdict.RECORDED)


def _ran_s(task: TaskRow, attempt: AttemptRow, report: Report, now: datetime) -> float:
    """What the device measured, cut to what the server saw: a device's clock decides nothing.

    A server whose own clock went back meanwhile saw nothing it could compare with; then the time limit cuts.
    """
    seen_s = (now - attempt.offered_at).total_seconds()
    return min(report.ran_s, seen_s if seen_s >= 0 else _allowed_s(task))


def _allowed_s(task: TaskRow) -> float:
    """A device's time limit with its tolerance: the larger of 1 s and 2 %."""
    return task.timeout_s + max(1.0, 0.02 * task.timeout_s)


def lose(task: TaskRow, attempt: AttemptRow, *, reason: str, now: datetime, max_losses: int) -> Step | None:
    """Give up a live attempt whose device is gone or does not answer. The first case that fits decides."""
    if not attempt.live:
        return None
    timed_out = attempt.accepted_at is not None and now >= attempt.accepted_at + timedelta(
        seconds=task.timeout_s
    )
    if task.cancel_requested_at is not None:
        why = f"{reason}; the device is told to stop it when it returns"
        return _give_up(
            task, attempt, Outcome.CANCELLED, why, now, **_terminal(TaskStatus.CANCELLED, attempt, now)
        )
    if attempt.state is AttemptState.OFFERED:
        return _give_up(task, attempt, Outcome.RETURNED, reason, now, **_queued(now))
    if task.on_device_loss is DeviceLossPolicy.FAIL:
        return _fail_lost(task, attempt, reason, now)
    if timed_out:
        why = f"{reason}; its time limit of {task.timeout_s} s has passed"
        return _give_up(
            task, attempt, Outcome.TIMEOUT, why, now, **_terminal(TaskStatus.TIMEOUT, attempt, now)
        )
    if task.losses >= max_losses:
        return _fail_lost(task, attempt, f"{reason} (lost {task.losses + 1} times)", now)
    changes = {**_queued(now), "losses": task.losses + 1, "avoid_device": attempt.device_id}
    return _give_up(task, attempt, Outcome.LOST, reason, now, **changes)


def time_left_s(task: TaskRow, attempt: AttemptRow, *, now: datetime) -> float | None:
    """Until the server itself tells the device to end the attempt; None for one that does not run.

    The device's own limit may be late by the larger of 1 s and 2 %. Never more than the whole: an attempt that was
    accepted in the future comes from a clock that was wrong.
    """
    if attempt.state is not AttemptState.RUNNING or attempt.accepted_at is None:
        return None
    limit = _allowed_s(task) + SILENCE_MARGIN_S
    return min(limit, limit - (now - attempt.accepted_at).total_seconds())


def overrule(task: TaskRow, attempt: AttemptRow, *, now: datetime) -> Step | None:
    """A connected device was told to end it, because of a cancel or its time limit, and did not: over, for good."""
    if attempt.state is not AttemptState.RUNNING:
        return None
    cancelled = task.cancel_requested_at is not None
    outcome, status = (
        (Outcome.CANCELLED, TaskStatus.CANCELLED) if cancelled else (Outcome.TIMEOUT, TaskStatus.TIMEOUT)
    )
    return _give_up(task, attempt, outcome, NOT_STOPPED, now, **_terminal(status, attempt, now))


def confirm(task: TaskRow, attempt: AttemptRow) -> Step | None:
    """The device says that nothing of an attempt the server gave up runs any more."""
    if attempt.live or attempt.confirmed:
        return None
    return Step(task, attempt._replace(confirmed=True))


def hand_back(task: TaskRow, attempt: AttemptRow, *, reason: str, now: datetime) -> Step | None:
    """A device stops in good order: it ended its work and said so, which is nobody's failure and no loss."""
    if not attempt.live:
        return None
    if task.cancel_requested_at is not None:
        step = _give_up(
            task, attempt, Outcome.CANCELLED, reason, now, **_terminal(TaskStatus.CANCELLED, attempt, now)
        )
        return step._replace(attempt=step.attempt._replace(confirmed=True))
    if attempt.state is AttemptState.RUNNING and task.on_device_loss is DeviceLossPolicy.FAIL:
        return _fail_lost(task, attempt, reason, now)
    return _give_up(task, attempt, Outcome.RETURNED, reason, now, **_queued(now))


def withdraw(task: TaskRow, attempt: AttemptRow, *, reason: str, now: datetime) -> Step | None:
    """An operator takes it away from a device: back to the queue, which is nobody's failure and no loss.

    What is being cancelled, or must not run twice and may run already, is left as it is.
    """
    must_not_repeat = attempt.state is AttemptState.RUNNING and task.on_device_loss is DeviceLossPolicy.FAIL
    if not attempt.live or task.cancel_requested_at is not None or must_not_repeat:
        return None
    return _give_up(task, attempt, Outcome.RETURNED, reason, now, **_queued(now))


def _fail_lost(task: TaskRow, attempt: AttemptRow, reason: str, now: datetime) -> Step:
    step = _give_up(task, attempt, Outcome.LOST, reason, now, **_terminal(TaskStatus.FAILED, attempt, now))
    message = f"the device {attempt.device_id} was lost while it ran this task: {reason}"
    return step._replace(attempt=step.attempt._replace(error_code=DEVICE_LOST, error_message=message))


def _give_up(
    task: TaskRow, attempt: AttemptRow, outcome: Outcome, reason: str, now: datetime, **changes: object
) -> Step:
    ended = attempt._replace(
        state=AttemptState.ENDED,
        outcome=outcome,
        reason=reason[:500],
        confirmed=False,
        ended_at=now,
    )
    return Step(_move(task, "lose", **changes), ended)


# --- what people ask for --------------------------------------------------------------------------------------


def cancel(task: TaskRow, *, by: str, now: datetime) -> TaskRow:
    """Waiting: over at once. On a device: requested, until the device confirms. Raises NotAllowed at the end."""
    if task.status.is_terminal:
        raise NotAllowed("cancelled", task.status)
    if task.cancel_requested_at is not None:
        return task
    if task.status in (TaskStatus.PENDING, TaskStatus.QUEUED):
        return _move(
            task,
            "cancel",
            TaskStatus.CANCELLED,
            finished_at=now,
            cancel_requested_at=now,
            cancel_requested_by=by,
        )
    return task._replace(cancel_requested_at=now, cancel_requested_by=by, version=task.version + 1)


def retry(task: TaskRow, *, now: datetime, rank: int) -> TaskRow:
    """Open a new round of a task that ended badly. Raises NotAllowed otherwise."""
    if not task.status.can_retry:
        raise NotAllowed("retried", task.status)
    return _move(
        task,
        "retry",
        TaskStatus.QUEUED,
        round=task.round + 1,
        rank=rank,
        ready_at=now,
        failures=0,
        losses=0,
        avoid_device="",
        cancel_requested_at=None,
        cancel_requested_by="",
        device_id="",
        assigned_at=None,
        started_at=None,
        finished_at=None,
        execution_s=None,
        result_attempt=None,
        **_NO_PROGRESS,
    )


def ready(task: TaskRow, *, now: datetime) -> TaskRow | None:
    """A retry's back-off is over."""
    if task.status is not TaskStatus.PENDING or task.ready_at > now:
        return None
    return _move(task, "ready", TaskStatus.QUEUED)


# --- helpers --------------------------------------------------------------------------------------------------


_NO_PROGRESS: Mapping[str, Any] = {"progress": None, "progress_message": ""}


def _terminal(status: TaskStatus, attempt: AttemptRow, now: datetime) -> dict[str, object]:
    return {"status": status, "finished_at": now, "result_attempt": attempt.id}


def _queued(now: datetime) -> dict[str, object]:
    # The rank stays: a task that was unlucky goes first.
    return {
        "status": TaskStatus.QUEUED,
        "ready_at": now,
        "device_id": "",
        "assigned_at": None,
        "started_at": None,
        **_NO_PROGRESS,
    }


def _move(task: TaskRow, name: str, status: object, **changes: object) -> TaskRow:
    allowed_from, allowed_to = TRANSITIONS[name]
    if task.status not in allowed_from or status not in allowed_to:
        raise IllegalTransition(f"{name}: {task.status} -> {status} of {task}")
    return task._replace(status=status, version=task.version + 1, **changes)  # type: ignore[arg-type]


def _evidence(report: Report, now: datetime) -> str:
    words = {
        "outcome": report.outcome,
        "reported_at": now.isoformat(),
        "ran_s": report.ran_s,
        "error_message": report.error_message[:4096],
        "result": (report.result or "")[:32_768],
    }
    return jsontext.dumps(words)
