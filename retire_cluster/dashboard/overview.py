"""What the first page shows, collected in a constant number of queries."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Count

from devices.models import Device
from devices.serializers import device_rows
from retire_cluster.hosts import host_name
from retire_cluster.protocol.states import LIVE, TERMINAL, TaskStatus
from tasks.models import Task

MOST_DEVICES = 50
MOST_TASKS = 20


@dataclass(frozen=True, slots=True)
class Overview:
    """Rows and counts; `join_address` is where a device on this visitor's network finds the gateway."""

    devices: list[dict[str, Any]]
    tasks: list[Task]
    totals: dict[str, Any]
    running: int
    waiting: int
    ended: int
    join_address: str

    @property
    def more_devices(self) -> int:
        return int(self.totals["total_devices"]) - len(self.devices)


def load(host: str) -> Overview:
    """The overview for a visitor who reached this server as `host`."""
    counts = dict(Task.objects.values_list("status").annotate(count=Count("pk")))
    return Overview(
        devices=device_rows(list(Device.objects.members().newest()[:MOST_DEVICES])),
        tasks=list(Task.objects.newest().for_list()[:MOST_TASKS]),
        totals=Device.objects.members().totals(),
        running=sum(counts.get(status, 0) for status in LIVE),
        waiting=counts.get(TaskStatus.QUEUED, 0) + counts.get(TaskStatus.PENDING, 0),
        ended=sum(counts.get(status, 0) for status in TERMINAL),
        join_address=_join_address(host),
    )


def _join_address(host: str) -> str:
    name = host_name(host)
    bracketed = f"[{name}]" if ":" in name else name
    return f"{bracketed}:{settings.CLUSTER_PORT}"
