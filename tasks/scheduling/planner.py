"""Which queued task goes to which device. Tasks are taken in rank order; one that fits nowhere holds nobody up.

Save for wide tasks, those that need more than a slot: narrow ones would slip into every gap before them for ever.
Once a wide task has waited for HOLD_AFTER_S, one device is held for it, the one that is free soonest: nothing
ranked behind is placed there. Each plan chooses anew; since a held device gets nothing from behind, the moment
at which it is free at the latest never moves away, except for what is ranked before, and ranks run out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from devices.capacity import Signature
from tasks.scheduling.bits import Gauge, Level, Levels, collect, each
from tasks.scheduling.profiles import ProfileKey
from tasks.scheduling.roster import Roster

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
        return (*self.level(), *self.size())

    def level(self) -> tuple[bool, bool, bool, float]:
        """The part of the score that a placement changes; only for the worse."""
        hot = self.temperature_c is not None and self.temperature_c >= HOT_C
        return (self.failing, self.on_battery, hot, 1 - self.free_slots / self.slots)

    def size(self) -> tuple[int, str]:
        """The part that stays."""
        return (-(self.signature.cpu_count or 0), self.id)


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
    alternatives: Mapping[int, int],
    prospects: Sequence[Prospect] = (),
) -> Plan:
    """Place candidates, given in rank order, on the best device each; hold devices for wide ones without room.

    `alternatives` counts the connected devices that satisfy a profile, free or not: where there is only one,
    a task goes back to the device that failed it. `prospects` are the devices that may be held; those that are
    in `devices` too share their views. Reduces the free capacity of the views it uses.
    """
    openings, holds = _Openings(devices, profiles), _Holds(prospects, profiles)
    made = Plan(held=holds.made)
    for candidate in candidates:
        if openings.free_slots <= 0:
            break
        avoid = candidate.avoid_device if _still_avoids(candidate, alternatives) else ""
        device = openings.best(candidate.profile_id, avoid)
        if device is not None:
            taken = openings.take(device, candidate.profile_id)
            made.placements.append(Placement(candidate.task_id, device, taken))
        elif (held := holds.hold(candidate)) is not None:
            openings.close(held)
    return made


class _Openings:
    """What is free, as sets of devices, so that the best one for a task is found without a look at each.

    Everything here only shrinks: who has no room for a profile has none later, and nobody's score gets better.
    """

    def __init__(self, devices: Sequence[DeviceView], profiles: Mapping[int, ProfileKey]) -> None:
        self._devices = sorted(devices, key=DeviceView.size)
        self._numbers = {device.id: number for number, device in enumerate(self._devices)}
        self._profiles = profiles
        self._roster = Roster([device.signature for device in self._devices])
        self._levels = Levels([device.level() for device in self._devices])
        self._slots = Gauge([device.free_slots for device in self._devices])
        self._memory = Gauge([device.free_memory_mb or 0 for device in self._devices])
        self._storage = Gauge([device.free_storage_mb or 0 for device in self._devices])
        self._idle = collect(device.free_slots >= device.slots for device in self._devices)
        self._closed = 0
        self._suitable: dict[int, int] = {}  # of a profile, less those found without room
        self._start: dict[int, Level] = {}  # no suitable device with room is better than this
        self.free_slots = sum(device.free_slots for device in devices)

    def best(self, profile_id: int, avoid: str) -> DeviceView | None:
        """The device with the smallest score of those that fit and have room."""
        profile = self._profiles[profile_id]
        avoided = 1 << self._numbers[avoid] if avoid in self._numbers else 0
        wanted = self._with_room(profile_id, profile) & ~avoided
        while (found := self._levels.best(wanted, self._start.get(profile_id))) is not None:
            number, level = found
            if not avoided:
                self._start[profile_id] = level
            if has_room(profile, self._devices[number]):
                return self._devices[number]
            self._suitable[profile_id] &= ~(1 << number)
            wanted ^= 1 << number
        return None

    def take(self, device: DeviceView, profile_id: int) -> Reservation:
        """Reserve what a task of the profile needs."""
        number = self._numbers[device.id]
        slots, memory_mb, storage_mb = taken = reservation(self._profiles[profile_id], device)
        _take(device, taken)
        self.free_slots -= slots
        self._slots.take(number, slots)
        self._memory.take(number, memory_mb)
        self._storage.take(number, storage_mb)
        self._idle &= ~(1 << number)
        self._levels.move(number, device.level())
        return taken

    def close(self, device_id: str) -> None:
        """Nothing more goes there."""
        if device_id in self._numbers:
            self._closed |= 1 << self._numbers[device_id]

    def _with_room(self, profile_id: int, profile: ProfileKey) -> int:
        """Those that fit and, as far as the gauges tell, have room."""
        members = self._suitable.get(profile_id)
        if members is None:
            members = self._suitable[profile_id] = self._roster.fitting(profile)
        need = profile.requirements
        slots = max(1, need.min_cpu_cores or 1)
        members &= (self._slots.at_least(slots) | self._idle) & ~self._closed
        if need.memory_mb:
            members &= self._memory.at_least(need.memory_mb)
        if need.storage_mb:
            members &= self._storage.at_least(need.storage_mb)
        return members


class _Holds:
    """Devices held for wide tasks that wait for long."""

    def __init__(self, prospects: Sequence[Prospect], profiles: Mapping[int, ProfileKey]) -> None:
        self._prospects = prospects
        self._profiles = profiles
        self._roster = Roster([prospect.device.signature for prospect in prospects])
        self.made: dict[str, UUID] = {}

    def hold(self, candidate: Candidate) -> str | None:
        """Hold the device that is free soonest for the task, if it is wide and old enough; which one."""
        profile = self._profiles[candidate.profile_id]
        if len(self.made) >= HELD_AT_MOST or not may_hold(candidate, profile):
            return None
        fitting = [self._prospects[number] for number in each(self._roster.fitting(profile))]
        open_to_it = [
            (prospect.free_at(needed), prospect.device.id)
            for prospect in fitting
            if prospect.device.id not in self.made
            and (needed := reservation(profile, prospect.device)) != ONE_SLOT
        ]
        if not open_to_it:
            return None
        device_id = min(open_to_it)[1]
        self.made[device_id] = candidate.task_id
        return device_id


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


def _take(device: DeviceView, taken: Reservation) -> None:
    slots, memory_mb, storage_mb = taken
    device.free_slots -= slots
    if device.free_memory_mb is not None:
        device.free_memory_mb -= memory_mb
    if device.free_storage_mb is not None:
        device.free_storage_mb -= storage_mb
