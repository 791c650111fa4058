"""Placement alone, in memory: a cold pass of the planner, beside a loop that looks at each device for each task."""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from uuid import UUID

from benchmarks.harness.bench import Bench
from benchmarks.harness.figures import Cell, Outcome
from devices.capacity import Signature, allocatable_memory_mb
from tasks.scheduling.feasibility import feasible
from tasks.scheduling.planner import Candidate, DeviceView, Placement, has_room, plan, reservation
from tasks.scheduling.profiles import ProfileKey, Requirements
from tasks.scheduling.roster import Roster

NUMBER = "S6"
TITLE = "placement only, in memory: requirement templates and 5 % unique ones on devices no two of which are alike"

TASKS, DEVICES, TEMPLATES, UNIQUE = 100_000, 10_000, 200, 0.05
PART = 10  # the naive loop finishes with a tenth of the tasks on a tenth of the devices
TYPES = ("echo", "command", "python_eval", "http_request", "file_transfer", "ocr", "resize", "transcode")
PLATFORMS = ("linux", "linux", "linux", "windows", "android", "darwin")
TAGS = (*(f"room-{number}" for number in range(10)), "ssd", "quiet", "ups", "public")
ROLES = ("worker", "worker", "compute", "mobile", "storage")
OURS, NAIVE = "ours, cold pass", "naive first fit"


Decisions = list[Placement]


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be placed where."""

    queue: list[Candidate]
    profiles: dict[int, ProfileKey]
    fleet: list[DeviceView]

    @property
    def words(self) -> str:
        return f"{len(self.queue):,} tasks x {len(self.fleet):,} devices"


def run(bench: Bench) -> Outcome:
    """Ours at the size of the goals; both at a tenth of tasks and devices, from which the loop is extrapolated."""
    whole, part = made(TASKS, DEVICES), made(TASKS // PART, DEVICES // PART)
    about = f"{TEMPLATES} templates, {UNIQUE:.0%} of the tasks with requirements of their own"
    ours = Cell(whole.words, OURS, settings=about)
    guessed = Cell(whole.words, NAIVE, settings=f"extrapolated: {PART} x {PART} times its time below")
    same = Cell(part.words, OURS, settings=about)
    naive = Cell(part.words, NAIVE, settings="tasks in order, the first device that has room and is feasible")
    bench.interleave(
        [
            (ours, lambda: measured(whole, planned)),
            (same, lambda: measured(part, planned)),
            (naive, lambda: measured(part, first_fit)),
        ]
    )
    for seconds in naive.figures.get("s", ()):
        guessed.add({"s": PART * PART * seconds})
    outcome = Outcome([ours, guessed, same, naive])
    case = whole.words
    outcome.at_most(f"cold pass, {case}", outcome.cell(case, OURS), "s", 2.0, "s")
    slower, faster = outcome.cell(case, NAIVE), outcome.cell(case, OURS)
    outcome.times(f"faster than first fit, {case} (extrapolated)", (slower, "s"), (faster, "s"), 50)
    slower, faster = outcome.cell(part.words, NAIVE), outcome.cell(part.words, OURS)
    outcome.times(f"faster than first fit, {part.words} (measured)", (slower, "s"), (faster, "s"), 50)
    return outcome


# --- the contestants ------------------------------------------------------------------------------------------


def planned(case: Case, fleet: list[DeviceView]) -> Decisions:
    """The product's planner as a placement step calls it, nothing remembered from an earlier one."""
    roster = Roster([device.signature for device in fleet])
    failed = {candidate.profile_id for candidate in case.queue if candidate.avoid_device}
    alternatives = {item: roster.fitting(case.profiles[item]).bit_count() for item in failed}
    return plan(case.queue, fleet, case.profiles, alternatives).placements


def first_fit(case: Case, fleet: list[DeviceView]) -> Decisions:
    """Each task looks at one device after the other, the cheap question first."""
    made: Decisions = []
    for candidate in case.queue:
        profile = case.profiles[candidate.profile_id]
        for device in fleet:
            if has_room(profile, device) and feasible(profile, device.signature):
                slots, memory_mb, storage_mb = taken = reservation(profile, device)
                device.free_slots -= slots
                device.free_memory_mb = (device.free_memory_mb or 0) - memory_mb
                device.free_storage_mb = (device.free_storage_mb or 0) - storage_mb
                made.append(Placement(candidate.task_id, device, taken))
                break
    return made


def measured(
    case: Case, contestant: Callable[[Case, list[DeviceView]], Decisions]
) -> tuple[dict[str, float], list[str]]:
    """One pass over a fresh copy of the fleet, and every rule it broke."""
    fleet = [copy(device) for device in case.fleet]
    began, spent = time.perf_counter(), time.process_time()
    decisions = contestant(case, fleet)
    took, spent = time.perf_counter() - began, time.process_time() - spent
    broken = violations(case, decisions)
    figures = {"s": took, "CPU s": spent, "placed": float(len(decisions)), "violations": float(len(broken))}
    return figures, broken[:5]


def violations(case: Case, decisions: Decisions) -> list[str]:
    """Placements against a requirement, twice, or beyond what a device has."""
    profile_of = {candidate.task_id: case.profiles[candidate.profile_id] for candidate in case.queue}
    taken: dict[str, Counter[str]] = defaultdict(Counter)
    found = []
    for made in decisions:
        profile = profile_of.pop(made.task_id, None)
        if profile is None or not feasible(profile, made.device.signature):
            found.append(f"{made.task_id} is placed twice, or on {made.device.id} that does not satisfy it")
            continue
        need = profile.requirements
        slots = min(made.device.slots, need.min_cpu_cores or 1)
        taken[made.device.id].update(slots=slots, memory=need.memory_mb, storage=need.storage_mb)
    for device in case.fleet:
        used = taken[device.id]
        has = (device.free_slots, device.free_memory_mb or 0, device.free_storage_mb or 0)
        if any(part > there for part, there in zip(used.values(), has, strict=False)):
            found.append(f"{device.id} has {has} and gave {dict(used)}")
    return found


# --- the case -------------------------------------------------------------------------------------------------


def made(tasks: int, devices: int) -> Case:
    """The same for the same numbers. Some more is asked for than there is room."""
    chance = random.Random(6)
    profiles = {number: _profile(chance) for number in range(TEMPLATES)}
    weights = [1 / (1 + number) ** 0.5 for number in range(TEMPLATES)]  # some are asked for more than others
    queue = []
    for number, chosen in enumerate(chance.choices(range(TEMPLATES), weights, k=tasks)):
        profile_id = chosen
        if chance.random() < UNIQUE:
            profile_id = TEMPLATES + number
            profiles[profile_id] = _profile(chance, own=True)
        failed_on = f"device-{chance.randrange(devices):05d}" if number % 100 == 0 else ""
        queue.append(Candidate(UUID(int=number), profile_id, failed_on, chance.uniform(0, 30), number))
    return Case(queue, profiles, [_device(number, chance) for number in range(devices)])


def _profile(chance: random.Random, *, own: bool = False) -> ProfileKey:
    """A template asks for round amounts; one of its own for an amount nobody else asks for."""
    memory_gb = chance.choice((None, None, 0.25, 0.5, 1.0))
    requirements = Requirements(
        min_cpu_cores=chance.choice((None, None, None, 1, 2, 4)),
        min_memory_gb=chance.uniform(0.05, 2) if own else memory_gb,
        min_storage_gb=chance.choice((None, None, None, 1.0, 5.0)),
        required_platform=chance.choice((None, None, None, "linux", "windows", "android")),
        required_role=chance.choice((None, None, None, None, None, "worker", "compute")),
        required_tags=tuple(chance.sample(TAGS, chance.choice((0, 0, 0, 0, 1, 1, 2)))),
        gpu_required=chance.random() < 0.01,
        internet_required=chance.random() < 0.2,
    )
    return ProfileKey(chance.choice(TYPES), requirements)


def _device(number: int, chance: random.Random) -> DeviceView:
    """No two have the same memory and storage, as real ones."""
    cores = chance.choice((4, 4, 8, 8, 12, 16, 24))
    memory_mb = chance.choice((2048, 4096, 8192, 16_384, 32_768)) - chance.randrange(300)
    signature = Signature(
        task_types=frozenset((*TYPES[:5], *chance.sample(TYPES[5:], 2))),
        platform=chance.choice(PLATFORMS),
        role=chance.choice(ROLES),
        tags=frozenset(chance.sample(TAGS, 6)),
        cpu_count=cores,
        memory_mb=allocatable_memory_mb(memory_mb),
        storage_mb=100_000 + 37 * number,
        has_gpu=chance.random() < 0.1,
        has_internet=chance.random() < 0.95,
    )
    return DeviceView(
        id=f"device-{number:05d}",
        session=1,
        signature=signature,
        slots=cores,
        free_slots=cores,
        free_memory_mb=signature.memory_mb,
        free_storage_mb=signature.storage_mb,
        on_battery=chance.random() < 0.3,
        temperature_c=chance.uniform(30, 75),
    )
