"""Queries on devices."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection, models
from django.db.models import Count, Q, Sum, TextField, Value
from django.db.models.functions import Cast, StrIndex

from retire_cluster import bulk

if TYPE_CHECKING:
    from devices.models import Device  # noqa: F401  named in the base class below

MB_PER_GB = 1024
SERVER_GRADE = Q(cpu_count__gte=8, memory_mb__gte=16 * MB_PER_GB)


@dataclass(frozen=True, slots=True)
class OfferedTypes:
    """How many devices offer each task type, and how many devices there are."""

    types: dict[str, int]
    devices: int


@dataclass(frozen=True, slots=True)
class Load:
    """Attempts on a device: those that run, and those not over yet, offered ones included."""

    running: int = 0
    live: int = 0


class DeviceQuerySet(models.QuerySet["Device"]):
    """Devices; most questions are about members, those not removed."""

    def members(self) -> "DeviceQuerySet":
        """Devices that belong to the cluster; a removed one only keeps its name in the history."""
        return self.filter(removed_at=None)

    def in_service(self) -> "DeviceQuerySet":
        """Members that take new tasks now: connected, neither paused nor cordoned."""
        return self.members().filter(online=True, cordoned=False, paused_reason="")

    def for_list(self) -> "DeviceQuerySet":
        """Without what a list does not show: a device may report a lot about itself."""
        return self.defer("capabilities")

    def newest(self) -> "DeviceQuerySet":
        return self.order_by("-registered_at", "id")

    def with_tags(self, tags: Iterable[str]) -> "DeviceQuerySet":
        """Devices that carry all the tags. The same on both databases: a tag holds no quote or backslash."""
        queryset = self.annotate(tags_text=Cast("tags", TextField()))
        for index, tag in enumerate(tags):
            name = f"tag_{index}"
            queryset = queryset.annotate(**{name: StrIndex("tags_text", Value(f'"{tag}"'))}).filter(
                **{f"{name}__gt": 0}
            )
        return queryset

    def loads(self, device_ids: Sequence[str]) -> dict[str, Load]:
        """What devices work on now; those without work are missing. One query, by the index on live attempts."""
        if not device_ids:
            return {}
        # tasks is the layer above: by name, as its index is, without which SQLite walks over all that ever ran.
        marks = ", ".join(["%s"] * len(device_ids))
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT device_id, count(*), sum(CASE WHEN state = 'running' THEN 1 ELSE 0 END)"  # noqa: S608 only marks are added
                f" FROM tasks_attempt {bulk.indexed_by('attempt_live_by_device')}"
                f" WHERE NOT (state = 'ended') AND device_id IN ({marks}) GROUP BY device_id",
                list(device_ids),
            )
            return {
                device_id: Load(running=int(running), live=live)
                for device_id, live, running in cursor.fetchall()
            }

    def offered_types(self) -> OfferedTypes:
        """Which task types these devices offer. One query."""
        offers = list(self.values_list("task_types", flat=True))
        counts = Counter(name for offer in offers for name in set(offer))
        return OfferedTypes(dict(sorted(counts.items())), len(offers))

    def totals(self) -> dict[str, Any]:
        """Counts of all devices, resources of those online. One query."""
        census = _Census(self)
        return {
            **census.counts(),
            "health_percentage": round(100 * census.online / census.total, 1) if census.total else 0.0,
            "total_resources": census.resources(),
            "by_role": dict(census.by_role),
            "by_platform": dict(census.by_platform),
        }

    def summary(self) -> dict[str, Any]:
        """Counts of all devices, by role, platform, status and ability; resources of those online. One query."""
        census = _Census(self)
        return {
            **census.counts(),
            "by_role": dict(census.by_role),
            "by_platform": dict(census.by_platform),
            "by_status": {"online": census.online, "offline": census.total - census.online},
            "resource_totals": census.resources(),
            "capabilities": {
                "gpu_enabled": census.able["gpu"],
                "mobile_devices": census.by_role["mobile"],
                "server_grade": census.able["server"],
            },
        }

    def measured(self) -> dict[str, Any]:
        """Sums over the devices: `total`, `online`, by role and platform, and what those online have. One query."""
        census = _Census(self)
        return {
            "devices": {
                "total": census.total,
                "online": census.online,
                "by_role": dict(census.by_role),
                "by_platform": dict(census.by_platform),
            },
            "resources": {f"total_{name}": value for name, value in census.resources().items()},
            "slots": census.has["slots"],
        }


class _Census:
    """Devices counted in groups of equal role, platform and connection, by the database."""

    def __init__(self, devices: DeviceQuerySet) -> None:
        self.by_role: Counter[str] = Counter()
        self.by_platform: Counter[str] = Counter()
        self.able: Counter[str] = Counter()  # of all devices
        self.has: Counter[str] = Counter()  # what those online have
        groups = devices.values("role", "platform", "online").annotate(
            devices=Count("pk"),
            cores=Sum("cpu_count"),
            memory=Sum("memory_mb"),
            storage=Sum("storage_mb"),
            slots_sum=Sum("slots"),
            gpu=Count("pk", filter=Q(has_gpu=True)),
            server=Count("pk", filter=SERVER_GRADE),
        )
        for group in groups:
            self._add(group)

    def _add(self, group: Any) -> None:
        self.by_role[group["role"]] += group["devices"]
        self.by_platform[group["platform"]] += group["devices"]
        self.able.update(gpu=group["gpu"], server=group["server"])
        if group["online"]:
            self.has.update({key: group[key] or 0 for key in ("devices", "cores", "memory", "storage")})
            self.has["slots"] += group["slots_sum"]

    @property
    def total(self) -> int:
        return self.by_role.total()

    @property
    def online(self) -> int:
        return self.has["devices"]

    def counts(self) -> dict[str, int]:
        return {
            "total_devices": self.total,
            "online_devices": self.online,
            "offline_devices": self.total - self.online,
        }

    def resources(self) -> dict[str, Any]:
        return {
            "cpu_cores": self.has["cores"],
            "memory_gb": round(self.has["memory"] / MB_PER_GB, 1),
            "storage_gb": round(self.has["storage"] / MB_PER_GB, 1),
        }
