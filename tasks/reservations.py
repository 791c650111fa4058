"""What devices have promised to live attempts: always derived from the attempts, never counted."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from devices.models import Device
from devices.services import signature
from retire_cluster import bulk, db
from tasks.lifecycle import LIVE_ATTEMPT, LIVE_INDEX
from tasks.models import Attempt, Task
from tasks.scheduling.planner import DeviceView, Release, Reservation

Taken = Reservation
NOTHING: Taken = (0, 0, 0)


def taken(device_ids: Iterable[str] | None = None) -> dict[str, Taken]:
    """(slots, memory MB, storage MB) per device with live attempts; all devices if none are named. One query."""
    among: str = ""
    values: list[Any] = []
    if device_ids is not None:
        wanted = list(device_ids)
        if not wanted:
            return {}
        if db.is_sqlite():
            among, values = f" AND device_id IN ({', '.join(['%s'] * len(wanted))})", wanted
        else:
            among, values = " AND device_id = ANY(%b::varchar[])", [wanted]
    rows = bulk.ask(
        "SELECT device_id, sum(slots), sum(memory_mb), sum(storage_mb) FROM tasks_attempt"  # noqa: S608 only marks are added
        f" {bulk.indexed_by(LIVE_INDEX)} WHERE {LIVE_ATTEMPT}{among} GROUP BY device_id",
        values,
    )
    return {
        device_id: (int(slots), int(memory_mb), int(storage_mb))
        for device_id, slots, memory_mb, storage_mb in rows
    }


def with_free(device: DeviceView, used: Taken) -> DeviceView:
    """The view with what is left after the reservations."""
    slots, memory_mb, storage_mb = used
    totals = device.signature
    return replace(
        device,
        free_slots=max(0, device.slots - slots),
        free_memory_mb=None if totals.memory_mb is None else totals.memory_mb - memory_mb,
        free_storage_mb=None if totals.storage_mb is None else totals.storage_mb - storage_mb,
    )


def releases(device_ids: Iterable[str]) -> dict[str, tuple[Release, ...]]:
    """The reservations on each of the devices, with their ends by the tasks' time limits. Two queries."""
    wanted = list(device_ids)
    columns = ("device_id", "task_id", "slots", "memory_mb", "storage_mb", "offered_at", "accepted_at")
    live = bulk.select_rows(Attempt, columns, {"device_id": wanted}, also=LIVE_ATTEMPT, index=LIVE_INDEX)
    limits = dict(bulk.select_rows(Task, ("id", "timeout_s"), {"id": [row[1] for row in live]}))
    found: dict[str, list[Release]] = {device_id: [] for device_id in wanted}
    for device_id, task_id, slots, memory_mb, storage_mb, offered_at, accepted_at in live:
        ends_at = (accepted_at or offered_at).timestamp() + limits[task_id]
        found[device_id].append(Release(ends_at, (slots, memory_mb, storage_mb)))
    return {device_id: tuple(items) for device_id, items in found.items()}


def with_releases(device: DeviceView, held: Iterable[Release]) -> DeviceView:
    """The view with what is left after those reservations."""
    slots, memory_mb, storage_mb = NOTHING
    for release in held:
        slots += release.reserved[0]
        memory_mb += release.reserved[1]
        storage_mb += release.reserved[2]
    return with_free(device, (slots, memory_mb, storage_mb))


def view_of(device: Device) -> DeviceView:
    """The device as the planner sees it, with everything free."""
    return DeviceView(
        id=device.id,
        session=device.session,
        signature=signature(device),
        slots=device.slots,
        free_slots=device.slots,
        free_memory_mb=device.allocatable_memory_mb,
        free_storage_mb=device.storage_mb,
    )
