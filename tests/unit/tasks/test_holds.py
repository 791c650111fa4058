"""Wide tasks: a device is held for one that waits, so that no stream of narrow ones starves it."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.capacity import Signature
from tasks.scheduling.feasibility import feasible
from tasks.scheduling.planner import (
    HELD_AT_MOST,
    HOLD_AFTER_S,
    ONE_SLOT,
    Candidate,
    DeviceView,
    Plan,
    Prospect,
    Release,
    has_room,
    may_hold,
    plan,
)
from tasks.scheduling.profiles import ProfileKey, Requirements
from tests.unit.tasks.test_planner import Situation, situations

OLD = HOLD_AFTER_S + 1
NARROW, WIDE, HEAVY = range(3)
PROFILES = {
    NARROW: ProfileKey("echo", Requirements()),
    WIDE: ProfileKey("echo", Requirements(min_cpu_cores=4)),
    HEAVY: ProfileKey("echo", Requirements(min_memory_gb=2)),
}


def device(name: str, *, slots: int = 4, free: int = 4, memory_mb: int = 8192) -> DeviceView:
    signature = Signature(
        task_types=frozenset({"echo"}),
        platform="linux",
        role="worker",
        tags=frozenset(),
        cpu_count=slots,
        memory_mb=memory_mb,
        storage_mb=None,
        has_gpu=None,
        has_internet=None,
    )
    return DeviceView(
        id=name,
        session=1,
        signature=signature,
        slots=slots,
        free_slots=free,
        free_memory_mb=memory_mb,
        free_storage_mb=None,
    )


def task(number: int, profile: int, waited_s: float = OLD) -> Candidate:
    return Candidate(UUID(int=number), profile, ready_for_s=waited_s, rank=number)


def made(
    queue: Sequence[Candidate], prospects: Sequence[Prospect], profiles: Mapping[int, ProfileKey] = PROFILES
) -> Plan:
    """The plan, with every prospect that has a slot to give away."""
    devices = [prospect.device for prospect in prospects if prospect.device.free_slots > 0]
    return plan(
        queue,
        devices,
        profiles,
        dict.fromkeys(profiles, 2),
        prospects,
    )


def busy(name: str, ends_at: float, *, free: int = 1) -> Prospect:
    """A device of four slots, the others of which are taken until then."""
    return Prospect(device(name, free=free), tuple(Release(ends_at, ONE_SLOT) for _ in range(4 - free)))


def test_the_device_that_is_free_soonest_is_held_against_what_is_ranked_behind() -> None:
    later, sooner = busy("later", 200.0), busy("sooner", 100.0)
    found = made([task(1, WIDE), task(2, NARROW), task(3, NARROW)], [later, sooner])
    assert found.held == {"sooner": UUID(int=1)}
    assert [(item.task_id.int, item.device.id) for item in found.placements] == [(2, "later")]


def test_a_full_device_that_is_free_soonest_is_held_and_others_go_on() -> None:
    found = made([task(1, WIDE), task(2, NARROW)], [busy("full", 100.0, free=0), busy("open", 200.0)])
    assert found.held == {"full": UUID(int=1)}
    assert [item.device.id for item in found.placements] == ["open"]


def test_what_is_ranked_before_takes_its_place() -> None:
    found = made([task(1, NARROW), task(2, WIDE), task(3, NARROW)], [busy("only", 100.0, free=2)])
    assert [item.task_id.int for item in found.placements] == [1]
    assert found.held == {"only": UUID(int=2)}


@pytest.mark.parametrize("first", [task(1, WIDE, HOLD_AFTER_S), task(1, NARROW), task(1, WIDE)])
def test_nothing_is_held_for_a_young_or_a_narrow_task_or_one_that_fits_now(first: Candidate) -> None:
    fits_now = first == task(1, WIDE)
    only = (
        Prospect(device("only"))
        if fits_now
        else busy("only", 100.0, free=0 if first.profile_id == NARROW else 1)
    )
    assert made([first], [only]).held == {}


def test_memory_makes_a_task_wide_too() -> None:
    tight = Prospect(device("tight", memory_mb=3000), (Release(50.0, (1, 2048, 0)),))
    tight.device.free_slots, tight.device.free_memory_mb = 3, 952
    found = made([task(1, HEAVY), task(2, NARROW)], [tight])
    assert (found.held, found.placements) == ({"tight": UUID(int=1)}, [])


def test_each_task_holds_one_device_and_each_device_is_held_once() -> None:
    fleet = [busy(f"device-{number:02}", 100.0) for number in range(HELD_AT_MOST + 4)]
    queue = [task(number, WIDE) for number in range(1, HELD_AT_MOST + 4)]
    found = made([*queue, task(99, NARROW)], fleet)
    assert len(found.held) == len(set(found.held.values())) == HELD_AT_MOST
    assert [item.task_id.int for item in found.placements] == [99], "the rest of the fleet works"


@st.composite
def crowded(draw: st.DrawFn) -> tuple[Situation, list[Prospect]]:
    """Any queue and fleet, with reservations on the devices that say what is not free."""
    queue, fleet, profiles = draw(situations())
    prospects = []
    for view in fleet:
        taken = view.slots - view.free_slots
        ends = draw(st.lists(st.floats(0, 1000), min_size=taken, max_size=taken))
        prospects.append(Prospect(view, tuple(Release(moment, ONE_SLOT) for moment in ends)))
    waited = st.floats(0, 2 * HOLD_AFTER_S)
    aged = [
        Candidate(item.task_id, item.profile_id, ready_for_s=draw(waited), rank=number)
        for number, item in enumerate(queue)
    ]
    return (aged, fleet, profiles), prospects


@given(crowded())
def test_holding_never_overbooks_and_keeps_what_is_behind_away(
    case: tuple[Situation, list[Prospect]],
) -> None:
    (queue, fleet, profiles), prospects = case
    before = {view.id: deepcopy(view) for view in fleet}
    found = made(queue, prospects, profiles)
    taken: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for placement in found.placements:
        taken[placement.device.id].append(placement.reservation)
    for name, view in before.items():
        slots, memory, storage = (sum(column) for column in zip((0, 0, 0), *taken[name], strict=True))
        assert slots <= view.free_slots
        assert memory <= (view.free_memory_mb or 0)
        assert storage <= (view.free_storage_mb or 0)
    by_task = {item.task_id: item for item in queue}
    assert len(set(found.held.values())) == len(found.held)
    for name, task_id in found.held.items():
        holder = by_task[task_id]
        profile = profiles[holder.profile_id]
        assert may_hold(holder, profile)
        assert feasible(profile, before[name].signature)
        assert task_id not in {placement.task_id for placement in found.placements}
        for placement in found.placements:
            if placement.device.id == name:
                assert by_task[placement.task_id].rank < holder.rank


@given(crowded())
def test_whoever_is_left_behind_has_no_room_but_on_held_devices(
    case: tuple[Situation, list[Prospect]],
) -> None:
    (queue, fleet, profiles), prospects = case
    found = made(queue, prospects, profiles)
    placed = {placement.task_id for placement in found.placements}
    for candidate in queue:
        profile = profiles[candidate.profile_id]
        if candidate.task_id in placed:
            continue
        room = [view.id for view in fleet if feasible(profile, view.signature) and has_room(profile, view)]
        assert set(room) <= found.held.keys()


@dataclass
class World:
    """Seconds go by; narrow tasks never end to come; what runs ends by its time limit at the latest."""

    slots: list[int]
    limit_s: int
    durations: "itertools.cycle[int]"
    now: int = 0
    running: list[tuple[int, int, str, int]] = field(
        default_factory=list
    )  # over, at the latest, where, slots
    started: dict[int, int] = field(default_factory=dict)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1000))

    def views(self) -> list[Prospect]:
        found = []
        for number, slots in enumerate(self.slots):
            name = f"device-{number}"
            here = [item for item in self.running if item[2] == name]
            view = device(name, slots=slots, free=slots - sum(item[3] for item in here))
            assert view.free_slots >= 0
            releases = tuple(Release(float(latest), (taken, 0, 0)) for _, latest, _, taken in here)
            found.append(Prospect(view, releases))
        return found

    def step(self, waiting: list[Candidate], *, hold: bool) -> None:
        self.running = [item for item in self.running if item[0] > self.now]
        prospects = self.views()
        narrow = [task(next(self.numbers), NARROW, 0.0) for _ in range(sum(self.slots))]
        queue = [item for item in waiting if item.task_id.int not in self.started]
        devices = [prospect.device for prospect in prospects if prospect.device.free_slots > 0]
        found = plan(
            [*queue, *narrow],
            devices,
            PROFILES,
            dict.fromkeys(PROFILES, 2),
            prospects if hold else (),
        )
        for placement in found.placements:
            self.started[placement.task_id.int] = self.now
            over = self.now + min(self.limit_s, next(self.durations))
            entry = (over, self.now + self.limit_s, placement.device.id, placement.reservation[0])
            self.running.append(entry)
        self.now += 1


@given(
    slots=st.lists(st.integers(2, 6), min_size=1, max_size=3),
    durations=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    wide=st.integers(1, 3),
    warm_up=st.integers(1, 15),
)
def test_no_stream_of_narrow_tasks_starves_a_wide_one(
    slots: list[int], durations: list[int], wide: int, warm_up: int
) -> None:
    """The first wide task starts when its device is free by the time limits, the next ones in turn."""
    slots[0] = max(4, slots[0])
    world = World(slots, limit_s=10, durations=itertools.cycle(durations))
    for _ in range(warm_up):
        world.step([], hold=True)
    begun = world.now
    waiting = [task(number, WIDE) for number in range(wide)]
    for number in range(wide):
        while number not in world.started:
            assert world.now <= begun + (number + 1) * (world.limit_s + 1)
            world.step(waiting, hold=True)


def test_without_holding_the_very_same_stream_starves_it() -> None:
    """What the rule is for: slots become free one by one, and each is taken at once."""
    world = World([4], limit_s=10, durations=itertools.cycle([3, 4, 5, 7]))
    for _ in range(5):
        world.step([], hold=False)
    for _ in range(300):
        world.step([task(1, WIDE)], hold=False)
    assert 1 not in world.started
