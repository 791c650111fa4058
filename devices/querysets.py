"""Queries on devices."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import models
from django.db.models import Count, Q, Sum, TextField, Value
from django.db.models.functions import Cast, StrIndex

if TYPE_CHECKING:
    from devices.models import Device  # noqa: F401  named in the base class below

MB_PER_GB = 1024


@dataclass(frozen=True, slots=True)
class OfferedTypes:
    """How many devices offer each task type, and how many devices there are."""

    types: dict[str, int]
    devices: int


class DeviceQuerySet(models.QuerySet["Device"]):
    """Devices; most questions are about members, those not removed."""

    def members(self) -> "DeviceQuerySet":
        """Devices that belong to the cluster; a removed one only keeps its name in the history."""
        return self.filter(removed_at=None)

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

    def running_counts(self, device_ids: Sequence[str]) -> dict[str, int]:
        """How many attempts run on each device now. One query, answered by the index on live attempts."""
        attempts: Any = apps.get_model(
            "tasks", "Attempt"
        )  # tasks is the layer above: by name, as the relation is
        rows = (
            attempts.objects.filter(~Q(state="ended"), state="running", device_id__in=device_ids)
            .values_list("device_id")
            .annotate(running=Count("pk"))
        )
        return dict(rows)

    def offered_types(self) -> OfferedTypes:
        """Which task types these devices offer. One query."""
        offers = list(self.values_list("task_types", flat=True))
        counts = Counter(name for offer in offers for name in set(offer))
        return OfferedTypes(dict(sorted(counts.items())), len(offers))

    def totals(self) -> dict[str, Any]:
        """Counts of all devices, resources of those online. One query."""
        rows = self.values("role", "platform", "online").annotate(
            devices=Count("pk"), cores=Sum("cpu_count"), memory=Sum("memory_mb"), storage=Sum("storage_mb")
        )
        by_role: Counter[str] = Counter()
        by_platform: Counter[str] = Counter()
        online: Counter[str] = Counter()
        for row in rows:
            by_role[row["role"]] += row["devices"]
            by_platform[row["platform"]] += row["devices"]
            if row["online"]:
                online.update({key: row[key] or 0 for key in ("devices", "cores", "memory", "storage")})
        total = by_role.total()
        return {
            "total_devices": total,
            "online_devices": online["devices"],
            "offline_devices": total - online["devices"],
            "health_percentage": round(100 * online["devices"] / total, 1) if total else 0.0,
            "total_resources": {
                "cpu_cores": online["cores"],
                "memory_gb": round(online["memory"] / MB_PER_GB, 1),
                "storage_gb": round(online["storage"] / MB_PER_GB, 1),
            },
            "by_role": dict(by_role),
            "by_platform": dict(by_platform),
        }
