"""What people do with tasks: one call per action, whoever the caller is (API, admin, command)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import uuid6
from django.db import IntegrityError, connection
from django.db.models import Q

from clusterconfig import audit
from clusterconfig.audit import Actor
from devices import services as devices
from retire_cluster import bulk, db, hints
from retire_cluster.protocol.states import DeviceLossPolicy, Priority
from retire_cluster.protocol.tasktypes import BUILTIN_TYPES, HARMLESS_TYPES
from tasks import bridge, idempotency, profiles, rules, waiting
from tasks.explain import queue_reasons
from tasks.lifecycle import Ledger, enqueue
from tasks.models import Attempt, Task
from tasks.profiles import TooManyProfiles
from tasks.rules import TaskRow
from tasks.scheduling.profiles import ProfileKey, Requirements
from tasks.scheduling.rank import rank

__all__ = [
    "Submission",
    "Submitted",
    "TooManyProfiles",
    "UnknownTaskType",
    "cancel",
    "queue_reasons",
    "retry",
    "submit",
]

AUDITED_IDS = 5  # of a batch; the count is in the details


class UnknownTaskType(Exception):
    """No registered device offers the types; `reasons` says so of each."""

    def __init__(self, task_types: Sequence[str], known: Sequence[str]) -> None:
        known_words = f"known types: {', '.join(known)}"
        self.reasons = {
            item: f"no device offers the task type {item!r}; {known_words}" for item in task_types
        }
        super().__init__("; ".join(self.reasons.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A validated request to run something. `requirements_json` is the full form shown back to the client."""

    task_type: str
    payload_json: str
    priority: str
    requirements: Requirements
    requirements_json: dict[str, Any]
    timeout_s: int
    max_retries: int
    on_device_loss: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Submitted:
    """The tasks of a submission; `replayed` when they were there already, for the same Idempotency-Key."""

    tasks: list[Task]
    replayed: bool = False


def submit(
    submissions: Sequence[Submission],
    *,
    actor: Actor,
    task_ids: Sequence[UUID] | None = None,
    token: idempotency.Token | None = None,
) -> Submitted:
    """Store tasks as queued, in one transaction, and wake the gateways after the commit.

    Raises UnknownTaskType, TooManyProfiles or idempotency.Mismatch; nothing is stored then. The ids may be chosen
    by the caller, who can so wait for the end of a task before it exists.
    """
    check_types({submission.task_type for submission in submissions})
    ids = task_ids or [uuid6.uuid7() for _ in submissions]
    try:
        submitted = _store(submissions, ids, actor, token)
    except IntegrityError:
        if token is None:
            raise
        submitted = _store(submissions, ids, actor, token)  # another request with this key was first
    if not submitted.replayed:
        _announce()
    return submitted


def _store(
    submissions: Sequence[Submission], ids: Sequence[UUID], actor: Actor, token: idempotency.Token | None
) -> Submitted:
    alone = token is None and all(item.task_type in HARMLESS_TYPES for item in submissions)
    with bulk.one_write() if alone else db.write_transaction():
        now = db.carried_now()
        known = token and idempotency.recall(token, now=now)
        if known:
            rows = Task.objects.in_bulk(known)
            return Submitted([rows[task_id] for task_id in known if task_id in rows], replayed=True)
        keys = [ProfileKey(item.task_type, item.requirements) for item in submissions]
        profile_ids = profiles.ensure(keys, now=now)
        tasks = [
            _task(
                submission,
                task_id,
                profile_ids[key],
                rank(now, Priority(submission.priority), index),
                actor.principal,
                now,
            )
            for index, (submission, task_id, key) in enumerate(zip(submissions, ids, keys, strict=True))
        ]
        enqueue(tasks)
        if token:
            idempotency.remember(token, ids, now=now)
        _audit_code(tasks, actor, now)
    return Submitted(tasks)


def _audit_code(tasks: Sequence[Task], actor: Actor, now: datetime) -> None:
    """Whoever has code run is on record; the harmless types would only fill the table."""
    code = [task for task in tasks if task.task_type not in HARMLESS_TYPES]
    if code:
        targets = ",".join(str(task.id) for task in code[:AUDITED_IDS])
        types = sorted({task.task_type for task in code})
        audit.record(
            "task.submit", targets, actor=actor, now=now, details={"task_types": types, "count": len(code)}
        )


def cancel(task_id: UUID, *, actor: Actor) -> Task:
    """Cancel a task; one that is on a device is only asked to stop. Raises Task.DoesNotExist, rules.NotAllowed."""
    _change("task.cancel", task_id, actor, lambda row, now: rules.cancel(row, by=actor.principal, now=now))
    return Task.objects.get(id=task_id)


def retry(task_id: UUID, *, actor: Actor) -> Task:
    """Open a new round of a task that ended badly. Raises Task.DoesNotExist, rules.NotAllowed."""
    priority = Priority(Task.objects.values_list("priority", flat=True).get(id=task_id))
    _change(
        "task.retry", task_id, actor, lambda row, now: rules.retry(row, now=now, rank=rank(now, priority))
    )
    return Task.objects.get(id=task_id)


# Answered from a partial index that is nearly always empty.
_ANY_CANCELLING = """
    SELECT 1 FROM tasks_task {index}
    WHERE cancel_requested_at IS NOT NULL AND status IN ('assigned', 'running') LIMIT 1
"""


def cancelling(attempt_ids: Sequence[UUID]) -> list[tuple[UUID, str]]:
    """(attempt, device) of those live attempts whose task is to be cancelled."""
    with connection.cursor() as cursor:
        cursor.execute(_ANY_CANCELLING.format(index=bulk.indexed_by("task_cancelling")))
        if cursor.fetchone() is None:
            return []
    wanted = Attempt.objects.filter(
        ~Q(state="ended"), id__in=attempt_ids, task__cancel_requested_at__isnull=False
    )
    return list(wanted.values_list("id", "device_id"))


def _change(action: str, task_id: UUID, actor: Actor, rule: Callable[[TaskRow, datetime], TaskRow]) -> None:
    with db.write_transaction():
        ledger = Ledger(db.now())
        row = ledger.lock_task(task_id)
        changed = rule(row, ledger.now)
        ledger.put_task(changed)
        ledger.flush()
        if changed is not row:
            audit.record(action, str(task_id), actor=actor, now=ledger.now, details={"was": row.status.value})
    waiting.ended(ledger.finished)
    hints.notify(hints.INTENT)
    _announce()


def _announce() -> None:
    """After a commit: wake this process's gateway, and have the bridge look after the others."""
    hints.notify()
    bridge.request_dispatch()


def check_types(wanted: Iterable[str]) -> None:
    """Raise UnknownTaskType for a type that no registered device offers."""
    # The built-in types are known even before the first device has joined.
    unknown = set(wanted) - set(BUILTIN_TYPES)
    if not unknown:
        return
    known = sorted(devices.offered_task_types() | set(BUILTIN_TYPES))
    if missing := sorted(unknown.difference(known)):
        raise UnknownTaskType(missing, known)


def _task(
    submission: Submission, task_id: UUID, profile_id: int, place: int, principal: str, now: datetime
) -> Task:
    values = {
        **_task_defaults(),
        "id": task_id,
        "task_type": submission.task_type,
        "priority": submission.priority,
        "payload": submission.payload_json,
        "requirements": submission.requirements_json,
        "metadata": submission.metadata,
        "profile_id": profile_id,
        "timeout_s": submission.timeout_s,
        "max_retries": submission.max_retries,
        "on_device_loss": DeviceLossPolicy(submission.on_device_loss),
        "submitted_by": principal[:100],
        "created_at": now,
        "rank": place,
        "ready_at": now,
    }
    return bulk.instance(Task, values)


@cache
def _task_defaults() -> dict[str, Any]:
    """Every column in the table's order, with its default where it has one."""
    own = ("id", "requirements", "metadata")  # given anyway, and not to be shared
    return {
        field.attname: field.get_default() if field.has_default() and field.attname not in own else None
        for field in Task._meta.concrete_fields
    }
