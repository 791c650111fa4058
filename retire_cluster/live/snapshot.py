"""What a client that begins to listen is told first: how things are now."""

from typing import Any

from devices.models import Device
from retire_cluster.events.frames import Wanted
from tasks import statistics
from tasks.models import Task
from tasks.serializers import task_row

MAX_DEVICES = 1000


def build(wanted: Wanted) -> dict[str, Any]:
    """The state of what the client asked for. Counts of tasks may be remembered; blocks."""
    topics = wanted.topics or {"task", "device", "cluster"}
    found: dict[str, Any] = {}
    if "cluster" in topics:
        found["cluster"] = Device.objects.members().totals()
    if "device" in topics and not wanted.task_id:
        found["devices"] = _devices()
    if "task" in topics:
        found["tasks"] = statistics.queue_stats()["by_status"]
    if wanted.task_id:
        task = Task.objects.for_list().filter(pk=wanted.task_id).first()
        found["task"] = {**task_row(task), "version": task.version} if task else None
    return found


def _devices() -> list[dict[str, Any]]:
    """The newest devices, as far as a list of them is of use."""
    rows = Device.objects.members().newest()[:MAX_DEVICES]
    return [
        {
            "device_id": device.pk,
            "status": "online" if device.online else "offline",
            "role": device.role,
            "platform": device.platform,
            "reason": device.status_reason or None,
            "paused_reason": device.paused_reason or None,
            "cordoned": device.cordoned,
            "cordon_reason": device.cordon_reason or None,
            "draining": device.draining,
        }
        for device in rows
    ]
