"""Which device can run which profile: one small checker per requirement, each with a name and its values.

The same checkers decide placement and explain it. Unknown never satisfies: a device that could not say how much
memory it has is not given a task that needs some.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from devices.capacity import Signature
from tasks.scheduling.profiles import MB_PER_GB, ProfileKey, Requirements


class Reason(StrEnum):
    """Why a device cannot take a task."""

    TASK_TYPE = "task_type"
    CPU_CORES = "cpu_cores"
    MEMORY = "memory"
    STORAGE = "storage"
    PLATFORM = "platform"
    ROLE = "role"
    TAGS = "tags"
    GPU = "gpu"
    INTERNET = "internet"
    # What may change by itself; placement looks at it apart from the profile.
    ONLINE = "online"
    CORDONED = "cordoned"
    PAUSED = "paused"
    FREE_SLOTS = "free_slots"
    FREE_MEMORY = "free_memory"
    FREE_STORAGE = "free_storage"


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement held against one device."""

    reason: Reason
    passed: bool
    wanted: str
    found: str


def checks(profile: ProfileKey, device: Signature) -> Iterator[Check]:
    """Every requirement the profile makes, passed or failed, with the values."""
    offered = ", ".join(sorted(device.task_types)) or "none"
    yield Check(Reason.TASK_TYPE, _offers(profile, device), profile.task_type, offered)
    yield from _required(profile.requirements, device)


def feasible(profile: ProfileKey, device: Signature) -> bool:
    """Whether the device satisfies every requirement, its momentary load aside."""
    # Placement and pages ask this for each device: without the words nobody reads.
    return _offers(profile, device) and all(check.passed for check in _required(profile.requirements, device))


def _offers(profile: ProfileKey, device: Signature) -> bool:
    return profile.task_type in device.task_types


def _required(need: Requirements, device: Signature) -> Iterator[Check]:
    for checker in _CHECKERS:
        check = checker(need, device)
        if check is not None:
            yield check


def _at_least(
    reason: Reason, wanted: float, found: float | None, unit: str, scale: float = 1
) -> Check | None:
    if not wanted:
        return None
    said = "unknown" if found is None else f"{round(found / scale, 1):g}{unit}"
    return Check(reason, found is not None and found >= wanted, f"{round(wanted / scale, 1):g}{unit}", said)


def _cpu_cores(need: Requirements, device: Signature) -> Check | None:
    return _at_least(Reason.CPU_CORES, need.min_cpu_cores or 0, device.cpu_count, " cores")


def _memory(need: Requirements, device: Signature) -> Check | None:
    return _at_least(Reason.MEMORY, need.memory_mb, device.memory_mb, " GB", MB_PER_GB)


def _storage(need: Requirements, device: Signature) -> Check | None:
    return _at_least(Reason.STORAGE, need.storage_mb, device.storage_mb, " GB", MB_PER_GB)


def _platform(need: Requirements, device: Signature) -> Check | None:
    wanted = need.required_platform
    return Check(Reason.PLATFORM, device.platform == wanted, wanted, device.platform) if wanted else None


def _role(need: Requirements, device: Signature) -> Check | None:
    wanted = need.required_role
    return Check(Reason.ROLE, device.role == wanted, wanted, device.role) if wanted else None


def _tags(need: Requirements, device: Signature) -> Check | None:
    if not need.required_tags:
        return None
    missing = sorted(set(need.required_tags) - device.tags)
    found = f"no tag {' or '.join(missing)}" if missing else ", ".join(sorted(device.tags))
    return Check(Reason.TAGS, not missing, ", ".join(sorted(need.required_tags)), found)


def _gpu(need: Requirements, device: Signature) -> Check | None:
    return (
        Check(Reason.GPU, device.has_gpu is True, "a GPU", _has(device.has_gpu))
        if need.gpu_required
        else None
    )


def _internet(need: Requirements, device: Signature) -> Check | None:
    if not need.internet_required:
        return None
    return Check(Reason.INTERNET, device.has_internet is True, "internet access", _has(device.has_internet))


def _has(value: bool | None) -> str:
    return {True: "yes", False: "none", None: "unknown"}[value]  # after "needs a GPU, has"


_CHECKERS: tuple[Callable[[Requirements, Signature], Check | None], ...] = (
    _cpu_cores,
    _memory,
    _storage,
    _platform,
    _role,
    _tags,
    _gpu,
    _internet,
)
