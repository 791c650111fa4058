"""What people who follow the events are told of tasks. Payloads and results are not in it: everybody may listen."""

from collections.abc import Iterable, Sequence
from typing import Any

from retire_cluster.events import outbox
from retire_cluster.protocol.states import TaskStatus
from tasks.models import Task
from tasks.rules import TaskRow


def of_submitted(tasks: Sequence[Task]) -> None:
    """One event for all tasks of a request."""
    if tasks:
        ids = [str(task.id) for task in tasks]
        types = sorted({task.task_type for task in tasks})
        facts = {"task_ids": ids, "count": len(ids), "task_types": types, "status": TaskStatus.QUEUED}
        outbox.record("task.submitted", facts)


def of_changed(rows: Iterable[tuple[TaskRow, TaskRow]]) -> None:
    """One event for each task that is not as it was; a change nobody sees has none."""
    for before, after in rows:
        kind = _kind(before, after)
        if kind:
            outbox.record(kind, _facts(after))


def of_output(ends: Iterable[tuple[Any, int]]) -> None:
    """There is more of what tasks printed; `offset` is where it ends now. The text itself is read from the logs."""
    for task_id, offset in ends:
        outbox.record("task.output", {"task_id": str(task_id), "offset": offset})


def _kind(before: TaskRow, after: TaskRow) -> str:
    if after.status is not before.status or after.round != before.round:
        return "task.finished" if after.status.is_terminal else f"task.{after.status.value}"
    if after.cancel_requested_at is not None and before.cancel_requested_at is None:
        return "task.cancelling"
    if after.device_id != before.device_id or after.attempt_no != before.attempt_no:
        return f"task.{after.status.value}"
    told = (after.progress, after.progress_message) != (before.progress, before.progress_message)
    return "task.progress" if told else ""


def _facts(row: TaskRow) -> dict[str, Any]:
    return {
        "task_id": str(row.id),
        "status": row.status.value,
        "version": row.version,
        "device_id": row.device_id or None,
        "attempt": row.attempt_no,
        "progress": row.progress,
        "progress_message": row.progress_message or None,
        "cancel_requested": row.cancel_requested_at is not None,
        "is_terminal": row.status.is_terminal,
    }
