"""Rows for tests, straight to the database: valid by default, every field can be given."""

import itertools
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import uuid6

from devices.models import Device, Presence
from retire_cluster.protocol.states import TERMINAL
from tasks.models import Attempt, Profile, Task

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
_numbers = itertools.count(1)


def make_device(device_id: str = "", *, metrics: dict[str, Any] | None = None, **fields: Any) -> Device:
    """A member of the cluster; online Linux with 4 cores and 8 GB by default. `metrics` adds its presence."""
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "role": "worker",
        "platform": "linux",
        "tags": [],
        "task_types": ["echo", "sleep", "system_info"],
        "slots": 4,
        "capabilities": {"platform": "linux", "cpu_count": 4},
        "cpu_count": 4,
        "memory_mb": 8192,
        "allocatable_memory_mb": 7372,
        "storage_mb": 102_400,
        "has_gpu": False,
        "has_internet": True,
        "agent_version": "0.1.0",
        "ip_address": "192.0.2.7",
        "secret_digest": "0" * 64,
        "session": 1,
        "online": True,
        "registered_at": START + timedelta(seconds=number),
    }
    device = Device.objects.create(id=device_id or f"device-{number}", **{**defaults, **fields})
    if metrics is not None:
        Presence.objects.create(device=device, last_seen=START, heartbeats=3, metrics=metrics)
    return device


def make_task(**fields: Any) -> Task:
    """A queued echo; a terminal status brings its finishing time."""
    task_type = fields.get("task_type", "echo")
    profile, _ = Profile.objects.get_or_create(
        digest=f"{task_type:0>64}"[-64:],
        defaults={"task_type": task_type, "requirements": {}, "last_used_at": START},
    )
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "id": uuid6.uuid7(),
        "task_type": task_type,
        "priority": "normal",
        "payload": '{"message":"Hello"}',
        "profile": profile,
        "timeout_s": 300,
        "max_retries": 0,
        "on_device_loss": "requeue",
        "created_at": START + timedelta(seconds=number),
        "status": "queued",
        "rank": number,
        "ready_at": START,
    }
    if fields.get("status") in TERMINAL:
        defaults["finished_at"] = START + timedelta(hours=1)
    return Task.objects.create(**{**defaults, **fields})


def make_attempt(task: Task, device: Device, **fields: Any) -> Attempt:
    """A running attempt; an outcome makes it an ended one."""
    ended = bool(fields.get("outcome"))
    defaults: dict[str, Any] = {
        "id": uuid.uuid4(),
        "round": 1,
        "no": task.attempts.count() + 1,
        "session": device.session,
        "state": "ended" if ended else "running",
        "slots": 1,
        "lease_until": START + timedelta(minutes=3),
        "offered_at": START,
        "accepted_at": START + timedelta(seconds=1),
        "ended_at": START + timedelta(seconds=2) if ended else None,
    }
    return Attempt.objects.create(task=task, device=device, **{**defaults, **fields})


def make_finished_task(device: Device, *, result: str | None = '{"echo":{}}', **fields: Any) -> Task:
    """A task that ran once on the device and succeeded (or ended as `status` says)."""
    status = fields.pop("status", "success")
    attempt_fields = {
        key: fields.pop(key) for key in ("error_message", "error_traceback", "reason") if key in fields
    }
    fields.setdefault("execution_s", 0.05)
    task = make_task(status=status, device_id=device.pk, attempt_no=1, **fields)
    attempt = make_attempt(task, device, outcome=status, result=result, ran_s=0.05, **attempt_fields)
    Task.objects.filter(pk=task.pk).update(result_attempt=attempt.pk, started_at=attempt.accepted_at)
    task.refresh_from_db()
    return task
