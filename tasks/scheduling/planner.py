"""Which queued task goes to which device. Tasks are taken in rank order; one that fits nowhere holds nobody up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from devices.capacity import Signature
from tasks.scheduling.profiles import ProfileKey

AVOID_S = 15.0  # how long a task waits for another device than the one that failed it
HOT_C = 70.0


@dataclass(slots=True, kw_only=True)
class DeviceView:
    """A connected device and what is free on it now. None: unknown, so nothing of it can be reserved."""

    id: str
    session: int
    signature: Signature
    slots: int
    free_slots: int
    free_memory_mb: int | None
    free_storage_mb: int | None
    failing: bool = False  # its last tasks failed at once
    on_battery: bool = False
    temperature_c: float | None = None

    def score(self) -> tuple[bool, bool, bool, float, int, str]:
        """Smallest first: not failing, plugged in, cool, least loaded, largest; the id makes the order total."""
        hot = self.temperature_c is not None and self.temperature_c >= HOT_C
        load = 1 - self.free_slots / self.slots
        return (self.failing, self.on_battery, hot, load, -(self.signature.cpu_count or 0), self.id)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A queued task at the head of its profile's queue."""

    task_id: UUID
    profile_id: int
    avoid_device: str = ""
    ready_for_s: float = AVOID_S


@dataclass(frozen=True, slots=True)
class Placement:
    """One decision; `reservation` is (slots, memory MB, storage MB)."""

    task_id: UUID
    device: DeviceView
    reservation: tuple[int, int, int]


Fits = Callable[[int, Signature], bool]


def reservation(profile: ProfileKey, device: DeviceView) -> tuple[int, int, int]:
    """What the task takes of the device: at least a slot, at most all of them."""
    need = profile.requirements
    return (min(device.slots, max(1, need.min_cpu_cores or 1)), need.memory_mb, need.storage_mb)


def plan(
    candidates: Sequence[Candidate],
    devices: Sequence[DeviceView],
    profiles: Mapping[int, ProfileKey],
    fits: Fits,
    alternatives: Mapping[int, int],
) -> list[Placement]:
    """Place candidates, given in rank order, on the best device each.

    `alternatives` counts the connected devices that satisfy a profile, free or not: where there is only one,
    a task goes back to the device that failed it. Reduces the free capacity of the views it uses.
    """
    suitable: dict[int, list[DeviceView]] = {}
    placements: list[Placement] = []
    free = sum(device.free_slots for device in devices)
    for candidate in candidates:
        if free <= 0:
            break
        profile_id = candidate.profile_id
        if profile_id not in suitable:
            suitable[profile_id] = [device for device in devices if fits(profile_id, device.signature)]
        avoid = candidate.avoid_device if _still_avoids(candidate, alternatives) else ""
        device = _best(profiles[profile_id], suitable[profile_id], avoid)
        if device is None:
            continue
        taken = reservation(profiles[profile_id], device)
        _take(device, taken)
        free -= taken[0]
        placements.append(Placement(candidate.task_id, device, taken))
    return placements


def has_room(profile: ProfileKey, device: DeviceView) -> bool:
    """Whether the device has the profile's reservation free now."""
    slots, memory_mb, storage_mb = reservation(profile, device)
    return (
        device.free_slots >= slots
        and (not memory_mb or (device.free_memory_mb or 0) >= memory_mb)
        and (not storage_mb or (device.free_storage_mb or 0) >= storage_mb)
    )


def _still_avoids(candidate: Candidate, alternatives: Mapping[int, int]) -> bool:
    return candidate.ready_for_s < AVOID_S and alternatives.get(candidate.profile_id, 0) > 1


def _best(profile: ProfileKey, devices: list[DeviceView], avoid: str) -> DeviceView | None:
    open_devices = [device for device in devices if device.id != avoid and has_room(profile, device)]
    return min(open_devices, key=DeviceView.score, default=None)


def _take(device: DeviceView, taken: tuple[int, int, int]) -> None:
    slots, memory_mb, storage_mb = taken
    device.free_slots -= slots
    if device.free_memory_mb is not None:
        device.free_memory_mb -= memory_mb
    if device.free_storage_mb is not None:
        device.free_storage_mb -= storage_mb
