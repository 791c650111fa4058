"""Which queued task goes to which device. Tasks are taken in rank order; one that fits nowhere holds nobody up.

Save for wide tasks, those that need more than a slot: narrow ones would slip into every gap before them for ever.
Once a wide task has waited for HOLD_AFTER_S, one device is held for it, the one that is free soonest: nothing
ranked behind is placed there. Each plan chooses anew; since a held device gets nothing from behind, the moment
at which it is free at the latest never moves away, except for what is ranked before, and ranks run out.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from uuid import UUID

from devices.capacity import Signature
from tasks.scheduling.profiles import ProfileKey

AVOID_S = 15.0  # how long a task waits for another device than the one that failed it
HOT_C = 70.0
HOLD_AFTER_S = 60.0
HELD_AT_MOST = 16  # devices in one plan: what is held stands idle in part

Reservation = tuple[int, int, int]  # slots, memory MB, storage MB
ONE_SLOT: Reservation = (1, 0, 0)


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
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """One decision."""

    task_id: UUID
    device: DeviceView
    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Release:
    """A reservation of a live attempt, and when its time limit ends it at the latest, in epoch seconds."""

    ends_at: float
    reserved: Reservation


@dataclass(frozen=True, slots=True)
class Prospect:
    """A device that may be held, free or not, with what is reserved there."""

    device: DeviceView
    releases: tuple[Release, ...] = ()

    def free_at(self, needed: Reservation) -> float:
        """When so much is free at the latest, if nothing is added; what this plan added ends nobody knows when."""
        device = self.device
        # What is not needed may be unknown, or overdrawn.
        missing = [
            needed[0] - device.free_slots,
            needed[1] and needed[1] - (device.free_memory_mb or 0),
            needed[2] and needed[2] - (device.free_storage_mb or 0),
        ]
        moment = -math.inf
        for release in sorted(self.releases, key=lambda item: item.ends_at):
            if max(missing) <= 0:
                return moment
            missing = [lack - more for lack, more in zip(missing, release.reserved, strict=True)]
            moment = release.ends_at
        return moment if max(missing) <= 0 else math.inf


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes where, and which devices are held for which task, by device id."""

    placements: list[Placement] = field(default_factory=list)
    held: dict[str, UUID] = field(default_factory=dict)


Fits = Callable[[int, Signature], bool]


def is_wide(profile: ProfileKey) -> bool:
    """Whether a task of it may find a free slot and still no room."""
    need = profile.requirements
    return bool((need.min_cpu_cores or 1) > 1 or need.memory_mb or need.storage_mb)


def may_hold(candidate: Candidate, profile: ProfileKey) -> bool:
    """Whether a device may be held for the task, should it find no room."""
    return candidate.ready_for_s > HOLD_AFTER_S and is_wide(profile)


def reservation(profile: ProfileKey, device: DeviceView) -> Reservation:
    """What the task takes of the device: at least a slot, at most all of them."""
    need = profile.requirements
    return (min(device.slots, max(1, need.min_cpu_cores or 1)), need.memory_mb, need.storage_mb)


def plan(
    candidates: Sequence[Candidate],
    devices: Sequence[DeviceView],
    profiles: Mapping[int, ProfileKey],
    fits: Fits,
    alternatives: Mapping[int, int],
    prospects: Sequence[Prospect] = (),
) -> Plan:
    """Place candidates, given in rank order, on the best device each; hold devices for wide ones without room.

    `alternatives` counts the connected devices that satisfy a profile, free or not: where there is only one,
    a task goes back to the device that failed it. `prospects` are the devices that may be held; those that are
    in `devices` too share their views. Reduces the free capacity of the views it uses.
    """
    suitable: dict[int, list[DeviceView]] = {}
    made = Plan()
    free = sum(device.free_slots for device in devices)
    for candidate in candidates:
        if free <= 0:
            break
        profile_id = candidate.profile_id
        if profile_id not in suitable:
            suitable[profile_id] = [device for device in devices if fits(profile_id, device.signature)]
        avoid = candidate.avoid_device if _still_avoids(candidate, alternatives) else ""
        device = _best(profiles[profile_id], suitable[profile_id], {avoid, *made.held})
        if device is None:
            _hold(made, candidate, profiles[profile_id], prospects, fits)
            continue
        taken = reservation(profiles[profile_id], device)
        _take(device, taken)
        free -= taken[0]
        made.placements.append(Placement(candidate.task_id, device, taken))
    return made


def _hold(
    made: Plan, candidate: Candidate, profile: ProfileKey, prospects: Iterable[Prospect], fits: Fits
) -> None:
    """Hold the device that is free soonest for the task, if it is wide and old enough."""
    if len(made.held) >= HELD_AT_MOST or not may_hold(candidate, profile):
        return
    open_to_it = [
        (prospect.free_at(needed), prospect.device.id)
        for prospect in prospects
        if prospect.device.id not in made.held
        and fits(candidate.profile_id, prospect.device.signature)
        and (needed := reservation(profile, prospect.device)) != ONE_SLOT
    ]
    if open_to_it:
        made.held[min(open_to_it)[1]] = candidate.task_id


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


def _best(profile: ProfileKey, devices: list[DeviceView], barred: AbstractSet[str]) -> DeviceView | None:
    open_devices = [device for device in devices if device.id not in barred and has_room(profile, device)]
    return min(open_devices, key=DeviceView.score, default=None)


def _take(device: DeviceView, taken: Reservation) -> None:
    slots, memory_mb, storage_mb = taken
    device.free_slots -= slots
    if device.free_memory_mb is not None:
        device.free_memory_mb -= memory_mb
    if device.free_storage_mb is not None:
        device.free_storage_mb -= storage_mb
