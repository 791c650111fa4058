"""Placement for any queue and any fleet: capacity, requirements, order, and nobody held up."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from devices.capacity import Signature
from tasks.scheduling.bits import each
from tasks.scheduling.feasibility import checks, feasible
from tasks.scheduling.planner import AVOID_S, Candidate, DeviceView, Placement, has_room, plan, reservation
from tasks.scheduling.profiles import ProfileKey, Requirements
from tasks.scheduling.roster import Roster

TYPES = ("echo", "sleep", "custom")
TAGS = ("fast", "disks", "pocket")
PLATFORMS = ("linux", "android")
ROLES = ("worker", "compute")

signatures = st.builds(
    Signature,
    task_types=st.frozensets(st.sampled_from(TYPES)),
    platform=st.sampled_from(PLATFORMS),
    role=st.sampled_from(ROLES),
    tags=st.frozensets(st.sampled_from(TAGS)),
    cpu_count=st.none() | st.integers(1, 8),
    memory_mb=st.none() | st.integers(0, 8192),
    storage_mb=st.none() | st.integers(0, 8192),
    has_gpu=st.none() | st.booleans(),
    has_internet=st.none() | st.booleans(),
)
requirements = st.builds(
    Requirements,
    min_cpu_cores=st.none() | st.integers(1, 8),
    min_memory_gb=st.none() | st.floats(0.01, 8),
    min_storage_gb=st.none() | st.floats(0.01, 8),
    required_platform=st.none() | st.sampled_from(PLATFORMS),
    required_role=st.none() | st.sampled_from(ROLES),
    required_tags=st.lists(st.sampled_from(TAGS), unique=True).map(tuple),
    gpu_required=st.booleans(),
    internet_required=st.booleans(),
)
profile_lists = st.lists(st.builds(ProfileKey, st.sampled_from(TYPES), requirements), min_size=1, max_size=5)


@st.composite
def fleets(draw: st.DrawFn) -> list[DeviceView]:
    """Connected devices, partly in use."""
    found = []
    for number, signature in enumerate(draw(st.lists(signatures, max_size=5))):
        slots = draw(st.integers(1, 6))
        found.append(
            DeviceView(
                id=f"device-{number}",
                session=1,
                signature=signature,
                slots=slots,
                free_slots=draw(st.integers(0, slots)),
                free_memory_mb=_part(draw, signature.memory_mb),
                free_storage_mb=_part(draw, signature.storage_mb),
                on_battery=draw(st.booleans()),
                temperature_c=draw(st.none() | st.floats(0, 100)),
            )
        )
    return found


def _part(draw: st.DrawFn, total: int | None) -> int | None:
    return None if total is None else draw(st.integers(0, total))


@st.composite
def queues(draw: st.DrawFn, profiles: int) -> list[Candidate]:
    """The heads of the queue, best rank first."""
    size = draw(st.integers(0, 12))
    return [
        Candidate(
            UUID(int=number),
            draw(st.integers(0, profiles - 1)),
            avoid_device=draw(st.sampled_from(["", "device-0", "device-1"])),
            ready_for_s=draw(st.floats(0, 2 * AVOID_S)),
        )
        for number in range(size)
    ]


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Candidate], list[DeviceView], dict[int, ProfileKey]]:
    profiles = dict(enumerate(draw(profile_lists)))
    return draw(queues(len(profiles))), draw(fleets()), profiles


def planned(
    queue: Sequence[Candidate], fleet: Sequence[DeviceView], profiles: Mapping[int, ProfileKey]
) -> list[Placement]:
    """The plan, on a copy of the fleet."""
    alternatives = {
        number: sum(feasible(profile, device.signature) for device in fleet)
        for number, profile in profiles.items()
    }
    return plan(
        queue,
        deepcopy(list(fleet)),
        profiles,
        alternatives,
    ).placements


Situation = tuple[list[Candidate], list[DeviceView], dict[int, ProfileKey]]


@given(situations())
def test_no_reservation_exceeds_what_is_free(situation: Situation) -> None:
    queue, fleet, profiles = situation
    taken: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for placement in planned(queue, fleet, profiles):
        taken[placement.device.id].append(placement.reservation)
    for device in fleet:
        slots, memory, storage = (
            sum(column) for column in zip(*(taken[device.id] or [(0, 0, 0)]), strict=True)
        )
        assert slots <= device.free_slots
        assert memory <= (device.free_memory_mb or 0)
        assert storage <= (device.free_storage_mb or 0)


@given(situations())
def test_requirements_always_hold_and_each_task_is_placed_once(situation: Situation) -> None:
    queue, fleet, profiles = situation
    profile_of = {candidate.task_id: profiles[candidate.profile_id] for candidate in queue}
    placements = planned(queue, fleet, profiles)
    assert len({placement.task_id for placement in placements}) == len(placements)
    for placement in placements:
        assert feasible(profile_of[placement.task_id], placement.device.signature)


@given(situations())
def test_whoever_is_left_behind_has_no_room_anywhere(situation: Situation) -> None:
    """Work-conserving, and an unsatisfiable task holds nobody up."""
    queue, fleet, profiles = situation
    queue = [replace(candidate, avoid_device="") for candidate in queue]
    placements = planned(queue, fleet, profiles)
    left = deepcopy(fleet)
    by_id = {device.id: device for device in left}
    for placement in placements:
        device = by_id[placement.device.id]
        slots, memory, storage = placement.reservation
        device.free_slots -= slots
        device.free_memory_mb = None if device.free_memory_mb is None else device.free_memory_mb - memory
        device.free_storage_mb = None if device.free_storage_mb is None else device.free_storage_mb - storage
    placed = {placement.task_id for placement in placements}
    behind = [candidate for candidate in queue if candidate.task_id not in placed]
    assert planned(behind, left, profiles) == []


@given(situations())
def test_equal_tasks_are_placed_in_rank_order(situation: Situation) -> None:
    queue, fleet, profiles = situation
    queue = [replace(candidate, avoid_device="") for candidate in queue]
    placed = {placement.task_id for placement in planned(queue, fleet, profiles)}
    for number in profiles:
        chosen = [candidate.task_id in placed for candidate in queue if candidate.profile_id == number]
        assert chosen == sorted(chosen, reverse=True)


@given(situations())
def test_the_same_situation_gives_the_same_plan(situation: Situation) -> None:
    queue, fleet, profiles = situation
    there = [(item.task_id, item.device.id) for item in planned(queue, fleet, profiles)]
    back = [(item.task_id, item.device.id) for item in planned(queue, fleet[::-1], profiles)]
    assert there == back


@given(situations())
def test_a_device_that_failed_a_task_is_avoided_while_there_is_another(situation: Situation) -> None:
    queue, fleet, profiles = situation
    fitting = {
        number: [device.id for device in fleet if feasible(profile, device.signature)]
        for number, profile in profiles.items()
    }
    by_task = {candidate.task_id: candidate for candidate in queue}
    for placement in planned(queue, fleet, profiles):
        candidate = by_task[placement.task_id]
        if placement.device.id == candidate.avoid_device:
            assert candidate.ready_for_s >= AVOID_S or len(fitting[candidate.profile_id]) == 1


@given(st.builds(ProfileKey, st.sampled_from(TYPES), requirements), signatures)
def test_what_is_unknown_never_satisfies(profile: ProfileKey, signature: Signature) -> None:
    unknown = replace(
        signature, cpu_count=None, memory_mb=None, storage_mb=None, has_gpu=None, has_internet=None
    )
    need = profile.requirements
    wants_a_measure = need.min_cpu_cores or need.memory_mb or need.storage_mb
    if wants_a_measure or need.gpu_required or need.internet_required:
        assert not feasible(profile, unknown)


@given(st.builds(ProfileKey, st.sampled_from(TYPES), requirements), signatures)
def test_what_decides_is_what_explains(profile: ProfileKey, signature: Signature) -> None:
    found = list(checks(profile, signature))
    assert feasible(profile, signature) == all(check.passed for check in found)
    assert len({check.reason for check in found}) == len(found)
    assert all(check.wanted and check.found is not None for check in found)


@given(profile_lists, st.lists(signatures, max_size=8))
def test_what_decides_for_many_devices_decides_for_each(
    profiles: list[ProfileKey], devices: list[Signature]
) -> None:
    roster = Roster(devices)
    for profile in profiles:
        fitting = [number for number, device in enumerate(devices) if feasible(profile, device)]
        assert list(each(roster.fitting(profile))) == fitting


@given(situations())
def test_each_task_goes_to_the_best_device_with_room(situation: Situation) -> None:
    """As a look at every device for every task would have it."""
    queue, fleet, profiles = situation
    queue = [replace(candidate, avoid_device="") for candidate in queue]
    placements = {item.task_id: item.device.id for item in planned(queue, fleet, profiles)}
    left = deepcopy(fleet)
    for candidate in queue:
        profile = profiles[candidate.profile_id]
        open_devices = [
            device for device in left if feasible(profile, device.signature) and has_room(profile, device)
        ]
        best = min(open_devices, key=DeviceView.score, default=None)
        assert placements.get(candidate.task_id) == (best and best.id)
        if best:
            slots, memory_mb, storage_mb = reservation(profile, best)
            best.free_slots -= slots
            best.free_memory_mb = None if best.free_memory_mb is None else best.free_memory_mb - memory_mb
            best.free_storage_mb = None if best.free_storage_mb is None else best.free_storage_mb - storage_mb


@given(st.builds(ProfileKey, st.sampled_from(TYPES), requirements), fleets())
def test_a_task_takes_a_slot_at_least_and_the_device_at_most(
    profile: ProfileKey, fleet: list[DeviceView]
) -> None:
    for device in fleet:
        assert 1 <= reservation(profile, device)[0] <= device.slots
