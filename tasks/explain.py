"""Why a task is not running yet, in words; from the very predicate that places it. Of others, how they stand."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.utils import timezone

from devices.models import Device
from retire_cluster import bulk, db
from retire_cluster.protocol.states import TaskStatus
from tasks import reservations
from tasks.models import Profile, Task
from tasks.scheduling.feasibility import Check, Reason, checks, feasible
from tasks.scheduling.planner import AVOID_S, DeviceView, has_room, reservation
from tasks.scheduling.profiles import MB_PER_GB, ProfileKey, from_canonical

MAX_EXPLAINED = 200
MAX_MISFITS = 100  # profiles
# What a device is judged by; another field would be a query for each device.
_JUDGED_BY = (
    "session", "slots", "task_types", "platform", "role", "tags", "cpu_count", "allocatable_memory_mb",
    "storage_mb", "has_gpu", "has_internet", "online", "cordoned", "paused_reason",
)  # fmt: skip
MOMENT = timedelta(seconds=10)  # what starts in a moment has started by then


@dataclass(frozen=True, slots=True)
class Candidate:
    """A registered device as the explanation sees it."""

    view: DeviceView
    online: bool
    cordoned: bool
    paused: str = ""  # why, in its agent's words


@dataclass(frozen=True, slots=True)
class Judged:
    """One device: each check with its values; `fits` leaves out what may change by itself."""

    device_id: str
    checks: list[Check]
    fits: bool

    @property
    def available(self) -> bool:
        """It could take the task now."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a task could run: counts of all devices, and the nearest of them with every check."""

    reason: str
    total: int
    fitting: int
    available: int
    devices: list[Judged]


@dataclass(frozen=True, slots=True)
class Misfit:
    """So many queued tasks of a type that fit no device, and why."""

    task_type: str
    count: int
    reason: str


def profile_of(task: Task) -> ProfileKey:
    """The requirements that decide where the task may run."""
    row = Profile.objects.get(id=task.profile_id)
    return from_canonical(row.task_type, row.requirements)


def queue_reasons(tasks: Sequence[Task]) -> dict[UUID, str]:
    """A sentence per task that is pending, queued or assigned. Three queries, however many tasks."""
    now = db.now()
    reasons: dict[UUID, str] = {}
    queued = [task for task in tasks if task.status == TaskStatus.QUEUED]
    if queued:
        devices = _devices()
        profiles = Profile.objects.in_bulk({task.profile_id for task in queued})
        outlooks = {
            profile_id: _outlook(from_canonical(row.task_type, row.requirements), devices)
            for profile_id, row in profiles.items()
        }
        for task in queued:
            waited = now - task.ready_at
            reasons[task.id] = _sentence(outlooks[task.profile_id], waited, task.avoid_device)
    for task in tasks:
        if task.status in (TaskStatus.PENDING, TaskStatus.ASSIGNED):
            reasons[task.id] = _standing(task, now)
    return reasons


def explain_task(task: Task) -> Explanation:
    """Every device held against a task. The reason of one that waits for no device says how it stands instead."""
    found = explain(profile_of(task), ready_at=task.ready_at, avoids=task.avoid_device)
    return found if task.status == TaskStatus.QUEUED else replace(found, reason=_standing(task, db.now()))


def explain(profile: ProfileKey, *, ready_at: datetime | None = None, avoids: str = "") -> Explanation:
    """Every device held against the profile, the best match first; only the first MAX_EXPLAINED are listed.

    `ready_at`: since when a task of it waits; without one it is not there yet. `avoids`: the device it failed on.
    """
    devices = _devices()
    waited = timezone.now() - ready_at if ready_at else timedelta(0)
    judged = sorted((_judged(profile, device) for device in devices), key=_nearness)
    return Explanation(
        reason=sentence(profile, devices, waited, avoids=avoids),
        total=len(judged),
        fitting=sum(item.fits for item in judged),
        available=sum(item.available for item in judged),
        devices=judged[:MAX_EXPLAINED],
    )


def misfits() -> list[Misfit]:
    """What waits and fits no device that is registered, the most tasks first. Three queries.

    Looks at the MAX_MISFITS profiles with the most queued tasks.
    """
    counts = _queued_by_profile()
    if not counts:
        return []
    devices = _devices()
    rows = Profile.objects.in_bulk(counts)
    found = []
    for profile_id, count in counts.items():
        row = rows[profile_id]
        profile = from_canonical(row.task_type, row.requirements)
        if not any(feasible(profile, device.view.signature) for device in devices):
            found.append(Misfit(row.task_type, count, sentence(profile, devices)))
    return found


def _queued_by_profile() -> dict[int, int]:
    """How many tasks wait, by profile, the most first. One query, from the queue's index alone."""
    # SQLite would take the index on the status, and look up every queued task for its profile.
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT profile_id, count(*) AS waiting FROM tasks_task {bulk.indexed_by('task_queue')}"  # noqa: S608 names are ours
            " WHERE status = 'queued' GROUP BY profile_id ORDER BY waiting DESC LIMIT %s",
            [MAX_MISFITS],
        )
        return dict(cursor.fetchall())


def _nearness(judged: "Judged") -> tuple[int, bool, str]:
    return (sum(not check.passed for check in judged.checks), not judged.available, judged.device_id)


def _judged(profile: ProfileKey, device: Candidate) -> "Judged":
    lasting = list(checks(profile, device.view.signature))
    return Judged(
        device.view.id, [*lasting, *_now(profile, device)], fits=all(item.passed for item in lasting)
    )


def _now(profile: ProfileKey, device: Candidate) -> Iterator[Check]:
    """What may change by itself: connection, cordon, pause, and what is free."""
    view = device.view
    slots, memory_mb, storage_mb = reservation(profile, view)
    yield Check(Reason.ONLINE, device.online, "online", "online" if device.online else "offline")
    yield Check(
        Reason.CORDONED, not device.cordoned, "in service", "cordoned" if device.cordoned else "in service"
    )
    paused = f"paused: {device.paused}" if device.paused else "takes tasks"
    yield Check(Reason.PAUSED, not device.paused, "takes tasks", paused)
    yield Check(
        Reason.FREE_SLOTS,
        view.free_slots >= slots,
        f"{slots} free",
        f"{view.free_slots} of {view.slots} free",
    )
    if memory_mb:
        yield _free(Reason.FREE_MEMORY, memory_mb, view.free_memory_mb)
    if storage_mb:
        yield _free(Reason.FREE_STORAGE, storage_mb, view.free_storage_mb)


def _free(reason: Reason, wanted_mb: int, found_mb: int | None) -> Check:
    found = "unknown" if found_mb is None else f"{found_mb / MB_PER_GB:.1f} GB free"
    passed = found_mb is not None and found_mb >= wanted_mb
    return Check(reason, passed, f"{wanted_mb / MB_PER_GB:.1f} GB free", found)


def sentence(
    profile: ProfileKey,
    devices: Iterable[Candidate],
    waited: timedelta = timedelta(0),
    *,
    avoids: str = "",
) -> str:
    """Why nothing has taken a queued task of this profile. Pure."""
    return _sentence(_outlook(profile, list(devices)), waited, avoids)


@dataclass(frozen=True, slots=True)
class _Outlook:
    """How a profile stands with the devices: found once for all tasks that share it.

    `verdict` is the same for each of them; empty where there is room, which is then on `roomy`.
    """

    verdict: str
    roomy: frozenset[str] = frozenset()
    online: int = 0
    usable: int = 0


def _outlook(profile: ProfileKey, known: Sequence[Candidate]) -> _Outlook:
    if not known:
        return _Outlook("no device has joined the cluster yet")
    fitting = [item for item in known if feasible(profile, item.view.signature)]
    if not fitting:
        return _Outlook(_nearest_miss(profile, known))
    online = [item for item in fitting if item.online]
    if not online:
        are = "it is" if len(fitting) == 1 else "all are"
        return _Outlook(f"{_devices_words(len(fitting))}, but {are} offline")
    usable = [item for item in online if not item.cordoned and not item.paused]
    if not usable:
        return _Outlook(_all_out_of_service(online))
    roomy = frozenset(item.view.id for item in usable if has_room(profile, item.view))
    if not roomy:
        return _Outlook(f"{_devices_words(len(usable))}, {'it is' if len(usable) == 1 else 'all are'} busy")
    return _Outlook("", roomy, len(online), len(usable))


def _sentence(outlook: _Outlook, waited: timedelta, avoids: str) -> str:
    if outlook.verdict:
        return outlook.verdict
    if outlook.roomy == {avoids} and outlook.online > 1 and waited.total_seconds() < AVOID_S:
        return f"only {avoids} has room, where it was lost or failed: others have {AVOID_S:.0f} s to take it"
    room = f"{_devices_words(outlook.usable)} with room"
    if waited > MOMENT:
        return f"{room}, perhaps held for an older task that needs more of it"
    return f"{room}: it starts in a moment"


def _all_out_of_service(devices: Sequence[Candidate]) -> str:
    paused = [item for item in devices if not item.cordoned]
    if not paused:
        return f"{_devices_words(len(devices))}, but {'it is' if len(devices) == 1 else 'all are'} cordoned"
    if len(devices) == 1:
        return f"1 device fits, but it is paused: {paused[0].paused}"
    state = "paused" if len(paused) == len(devices) else "cordoned or paused"
    first = min(paused, key=lambda item: item.view.id)
    return f"{_devices_words(len(devices))}, but all are {state}; {first.view.id}: {first.paused}"


def _devices_words(count: int) -> str:
    return "1 device fits" if count == 1 else f"{count} devices fit"


def _failed(profile: ProfileKey, device: Candidate) -> list[Check]:
    return [check for check in checks(profile, device.view.signature) if not check.passed]


def _nearest_miss(profile: ProfileKey, devices: Sequence[Candidate]) -> str:
    nearest = min(
        devices, key=lambda device: (len(_failed(profile, device)), not device.online, device.view.id)
    )
    misses = "; ".join(f"needs {check.wanted}, has {check.found}" for check in _failed(profile, nearest))
    count = (
        "the only device does not fit" if len(devices) == 1 else f"none of the {len(devices)} devices fits"
    )
    return f"{count}; nearest is {nearest.view.id}: {misses}"


def _standing(task: Task, now: datetime) -> str:
    """How a task stands that is not queued."""
    status = TaskStatus(task.status)
    if status.is_terminal:
        return f"it has ended: {status.value}" + (f" on {task.device_id}" if task.device_id else "")
    if status == TaskStatus.PENDING:
        return _backing_off(task, now)
    if status == TaskStatus.ASSIGNED:
        return f"offered to {task.device_id}, which has not answered yet"
    if task.cancel_requested_at is not None:
        return f"{task.device_id} was told to stop it and has not confirmed yet"
    return f"it runs on {task.device_id}"


def _backing_off(task: Task, now: datetime) -> str:
    seconds = max(0, round((task.ready_at - now).total_seconds()))
    return f"waits {seconds} s before try {task.failures + 1} of {task.max_retries + 1}"


def _devices() -> list[Candidate]:
    taken = reservations.taken()
    return [
        _candidate(device, taken.get(device.id, reservations.NOTHING))
        for device in Device.objects.members().only(*_JUDGED_BY)
    ]


def _candidate(device: Device, taken: reservations.Taken) -> Candidate:
    view = reservations.with_free(reservations.view_of(device), taken)
    return Candidate(view, device.online, device.cordoned, device.paused_reason)
