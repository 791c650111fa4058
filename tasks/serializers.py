"""Tasks as the API shows them. Payloads and results are embedded as the text they are stored as."""

from collections.abc import Mapping, Sequence
from typing import Any

from retire_cluster.api.envelope import RawJSON
from retire_cluster.protocol.states import Outcome, TaskStatus
from tasks.explain import Explanation
from tasks.models import Attempt, OutputChunk, Task
from tasks.output import Page
from tasks.results import Results

LISTED = (
    "id",
    "task_type",
    "status",
    "priority",
    "created_at",
    "device_id",
    "assigned_at",
    "started_at",
    "finished_at",
    "execution_s",
    "failures",
    "max_retries",
    "progress",
)
"""The columns that a list shows."""


def task_row(task: Task) -> dict[str, Any]:
    """The list fields."""
    return listed_task({name: getattr(task, name) for name in LISTED})


def listed_task(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The list fields of a row that is no object: to make one of each takes as long as to read them all."""
    return {
        "task_id": columns["id"],
        "task_type": columns["task_type"],
        "status": columns["status"],
        "priority": columns["priority"],
        "created_at": columns["created_at"],
        "assigned_device_id": columns["device_id"] or None,
        "assigned_at": columns["assigned_at"],
        "started_at": columns["started_at"],
        "completed_at": columns["finished_at"],
        "execution_time_seconds": _seconds(columns["execution_s"]),
        "retry_count": min(columns["failures"], columns["max_retries"]),
        "progress": columns["progress"],
    }


def task_created(task: Task) -> dict[str, Any]:
    """The answer to a submission."""
    shown = {
        "task_id": task.pk,
        "task_type": task.task_type,
        "status": task.status,
        "priority": task.priority,
        "created_at": task.created_at,
    }
    return {"task_id": task.pk, "task": shown}


def task_awaited(columns: Mapping[str, Any], result: str | None) -> dict[str, Any]:
    """The answer to a submission that waited: the task as it stands, with its result if it ended."""
    shown = {**listed_task(columns), "result": None if result is None else RawJSON(result)}
    return {"task_id": columns["id"], "task": shown}


def task_status(task: Task, queue_reason: str | None) -> dict[str, Any]:
    """The list fields and what to expect next."""
    status = TaskStatus(task.status)
    return {
        **task_row(task),
        "progress_message": task.progress_message or None,
        "is_terminal": status.is_terminal,
        "can_retry": status.can_retry,
        "cancel_requested": task.cancel_requested_at is not None,
        "queue_reason": queue_reason,
    }


def task_detail(task: Task, payload_json: str) -> dict[str, Any]:
    """Everything about one task; the payload as the caller may see it."""
    attempts = list(task.attempts.order_by("no"))
    deciding = next((attempt for attempt in attempts if attempt.pk == task.result_attempt), None)
    return {
        **task_row(task),
        "payload": RawJSON(payload_json),
        "requirements": task.requirements,
        "metadata": task.metadata,
        "error_history": [_error(attempt) for attempt in attempts if _went_wrong(attempt)],
        "attempts": [_attempt(attempt) for attempt in attempts],
        "result": _result_data(deciding),
    }


def task_result(task: Task, attempt: Attempt | None) -> dict[str, Any]:
    """How a finished task ended, by the attempt that decided; None: it never ran."""
    return {
        "task_id": task.pk,
        "status": task.status,
        "result_data": _result_data(attempt),
        "execution_time_seconds": _seconds(task.execution_s) or 0.0,
        "worker_device_id": attempt.device_id if attempt else None,
        "started_at": task.started_at,
        "completed_at": task.finished_at,
        "error_message": _error_message(attempt) if task.status != TaskStatus.SUCCESS else None,
        "error_traceback": (attempt.error_traceback or None) if attempt else None,
    }


def task_results(found: Results) -> dict[str, Any]:
    """How many tasks ended, and which of those asked for are not among them."""
    return {
        "results": [task_result(task, attempt) for task, attempt in found.ended],
        "open": found.open,
        "left_out": found.left_out,
        "unknown": found.unknown,
    }


def task_logs(task: Task, page: Page, offset: int) -> dict[str, Any]:
    """A part of what a task printed; complete when it has ended and nothing follows."""
    end = offset
    chunks = []
    for chunk in page.chunks:
        chunks.append({**_chunk(chunk), "left_out": chunk.offset - end})
        end = chunk.offset + len(chunk.text)
    return {
        "task_id": task.pk,
        "status": task.status,
        "chunks": chunks,
        "next_offset": page.next_offset,
        "is_complete": TaskStatus(task.status).is_terminal and not page.more,
    }


def _chunk(chunk: OutputChunk) -> dict[str, Any]:
    return {
        "offset": chunk.offset,
        "attempt": chunk.attempt,
        "stream": chunk.stream,
        "text": chunk.text,
        "at": chunk.at,
    }


def tasks_created(tasks: Sequence[Task]) -> dict[str, Any]:
    """The answer to a batch."""
    return {"tasks": [task_created(task)["task"] for task in tasks], "count": len(tasks)}


def task_acted_on(task: Task) -> dict[str, Any]:
    """The answer to a cancel or retry."""
    return {**task_row(task), "cancel_requested": task.cancel_requested_at is not None}


def explanation(found: Explanation) -> dict[str, Any]:
    """Where a task could run, the nearest devices first."""
    return {
        "reason": found.reason,
        "total_devices": found.total,
        "fitting_devices": found.fitting,
        "available_devices": found.available,
        "devices": [
            {
                "device_id": device.device_id,
                "fits": device.fits,
                "available": device.available,
                "checks": [
                    {
                        "check": check.reason,
                        "passed": check.passed,
                        "wanted": check.wanted,
                        "found": check.found,
                    }
                    for check in device.checks
                ],
            }
            for device in found.devices
        ],
    }


def _seconds(value: float | None) -> float | None:
    """To the microsecond: further digits are noise of the clock."""
    return None if value is None else round(value, 6)


def _result_data(attempt: Attempt | None) -> RawJSON | None:
    return RawJSON(attempt.result) if attempt is not None and attempt.result is not None else None


def _went_wrong(attempt: Attempt) -> bool:
    return attempt.outcome in (Outcome.FAILED, Outcome.TIMEOUT, Outcome.LOST)


def _error_message(attempt: Attempt | None) -> str | None:
    return (attempt.error_message or attempt.reason or None) if attempt else None


def _error(attempt: Attempt) -> dict[str, Any]:
    return {
        "attempt": attempt.no,
        "device_id": attempt.device_id,
        "outcome": attempt.outcome,
        "error_code": attempt.error_code or None,
        "error_message": _error_message(attempt),
        "at": attempt.ended_at,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.no,
        "round": attempt.round,
        "device_id": attempt.device_id,
        "state": attempt.state,
        "outcome": attempt.outcome or None,
        "reason": attempt.reason or None,
        "confirmed": attempt.confirmed,
        "assigned_at": attempt.offered_at,
        "started_at": attempt.accepted_at,
        "ended_at": attempt.ended_at,
        "execution_time_seconds": _seconds(attempt.ran_s),
        "error_message": attempt.error_message or None,
        "error_traceback": attempt.error_traceback or None,
        "late": RawJSON(attempt.late) if attempt.late else None,
    }
