"""Figures about all tasks, each from one pass over the table: some tenths of a second for a million rows. They are
remembered for as long as pays for that, so that asking often costs no more than asking now and then."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Avg, Count, Q

from devices.models import Device
from retire_cluster import db
from retire_cluster.api.remembered import Remembered
from retire_cluster.protocol.states import Priority, TaskStatus
from tasks import reservations
from tasks.models import Task

LATELY = timedelta(hours=1)
SAMPLE = 1000  # waits looked at for the percentiles

_figures: Remembered[dict[str, Any]] = Remembered()


def queue_stats() -> dict[str, Any]:
    """How many tasks there are, by status, by priority and by the device of their latest attempt."""
    return _figures.get("queue_stats", _queue_stats)


def performance() -> dict[str, Any]:
    """What the tasks that ended within the last hour say of the cluster.

    `success_rate` is in percent, times are in seconds; percentiles of the wait are null when nothing ended.
    """
    return _figures.get("performance", _performance)


def current_load() -> dict[str, Any]:
    """What waits and runs now, and the share of all online devices' slots in use, in percent, not remembered."""
    total, busy = slots()
    by_status = queue_stats()["by_status"]
    return {
        "pending_tasks": by_status[TaskStatus.PENDING] + by_status[TaskStatus.QUEUED],
        "running_tasks": by_status[TaskStatus.ASSIGNED] + by_status[TaskStatus.RUNNING],
        "capacity_utilization": _percent(sum(busy.values()), sum(total.values())),
    }


def device_utilization() -> dict[str, float]:
    """The share of each online device's slots in use now, in percent."""
    slots_of, busy = slots()
    return {device_id: _percent(busy[device_id], total) for device_id, total in sorted(slots_of.items())}


def slots() -> tuple[dict[str, int], Counter[str]]:
    """Slots by online device, and those in use, not remembered. Two queries."""
    found = dict(Device.objects.members().filter(online=True).values_list("id", "slots"))
    taken = reservations.taken()
    return found, Counter({device_id: taken[device_id][0] for device_id in found if device_id in taken})


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def forget_cached() -> None:
    """Ask the database at the next call."""
    _figures.forget()


def _queue_stats() -> dict[str, Any]:
    """Two passes, each along an index that holds all it asks for, in the order it groups by: nothing is sorted."""
    by_status = Counter({status.value: 0 for status in TaskStatus})
    by_priority = Counter({priority.value: 0 for priority in Priority})
    of_priority = {item.value: Count("pk", filter=Q(priority=item.value)) for item in Priority}
    groups: Any = Task.objects.order_by().values("status").annotate(**of_priority)
    for counts in groups:
        status = counts.pop("status")
        by_status[status] += sum(counts.values())
        by_priority.update(counts)
    of_device = Task.objects.order_by().exclude(device_id="").values_list("device_id")
    return {
        "total_tasks": by_status.total(),
        "by_status": dict(by_status),
        "by_priority": dict(by_priority),
        "by_device": dict(of_device.annotate(tasks=Count("pk"))),
    }


def _performance() -> dict[str, Any]:
    # What has finished is terminal; with the status too, SQLite would look up every row by the index on it.
    lately = Task.objects.order_by().filter(finished_at__gte=db.now() - LATELY)
    sums = lately.aggregate(
        ended=Count("pk"),
        judged=Count("pk", filter=~Q(status=TaskStatus.CANCELLED)),
        succeeded=Count("pk", filter=Q(status=TaskStatus.SUCCESS)),
        average=Avg("execution_s"),
    )
    waits = sorted(_waits(lately.order_by("-finished_at").values_list("ready_at", "started_at")[:SAMPLE]))
    judged = sums["judged"]
    return {
        "success_rate": round(100 * sums["succeeded"] / judged, 1) if judged else 0.0,
        "average_execution_time": round(sums["average"] or 0.0, 3),
        "tasks_per_hour": sums["ended"],
        "queue_wait_p50_seconds": percentile(waits, 50),
        "queue_wait_p95_seconds": percentile(waits, 95),
    }


def _waits(rows: Any) -> list[float]:
    """Seconds from ready to started; what never started did not wait for a device to the end."""
    pairs: list[tuple[datetime, datetime | None]] = list(rows)
    return [max(0.0, (started - ready).total_seconds()) for ready, started in pairs if started is not None]


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """The smallest value that so many percent of the values do not exceed; None of none."""
    if not ordered:
        return None
    return round(ordered[max(0, -(-len(ordered) * percent // 100) - 1)], 3)
