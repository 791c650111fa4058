"""What a device can hold, as plain data: the part of it that placement looks at. Pure."""

from dataclasses import dataclass

MIN_HEADROOM_MB = 256  # memory always left to the device's own system; at least a tenth of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Everything about a device that static requirements look at. Equal signatures share one verdict."""

    task_types: frozenset[str]
    platform: str
    role: str
    tags: frozenset[str]
    cpu_count: int | None
    memory_mb: int | None  # allocatable
    storage_mb: int | None
    has_gpu: bool | None
    has_internet: bool | None


def allocatable_memory_mb(total_mb: int | None, cap_mb: int | None = None) -> int | None:
    """What may be reserved of a device's memory: total - max(256 MB, 10 %), at most the owner's cap."""
    if total_mb is None:
        return None
    free = max(0, total_mb - max(MIN_HEADROOM_MB, total_mb // 10))
    return free if cap_mb is None else min(free, cap_mb)
