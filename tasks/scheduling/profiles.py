"""Requirement profiles: equal placement requirements have one digest, however they were written."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

MB_PER_GB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a task needs of a device. None or empty: it does not care. GB are 2^30 bytes."""

    min_cpu_cores: int | None = None
    min_memory_gb: float | None = None
    min_storage_gb: float | None = None
    required_platform: str | None = None
    required_role: str | None = None
    required_tags: tuple[str, ...] = ()
    gpu_required: bool = False
    internet_required: bool = False

    @property
    def memory_mb(self) -> int:
        """Memory to reserve, up to whole MB."""
        return math.ceil((self.min_memory_gb or 0) * MB_PER_GB)

    @property
    def storage_mb(self) -> int:
        return math.ceil((self.min_storage_gb or 0) * MB_PER_GB)


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """A task type with canonical requirements."""

    task_type: str
    requirements: Requirements

    def canonical(self) -> dict[str, Any]:
        """Only what is asked for, memory and storage up to whole MB, tags sorted."""
        wanted = {
            **asdict(self.requirements),
            "min_memory_gb": self.requirements.memory_mb / MB_PER_GB,
            "min_storage_gb": self.requirements.storage_mb / MB_PER_GB,
            "required_tags": sorted(set(self.requirements.required_tags)),
        }
        return {key: value for key, value in wanted.items() if value}

    def digest(self) -> str:
        """SHA-256 of the canonical form."""
        text = json.dumps([self.task_type, self.canonical()], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def from_canonical(task_type: str, canonical: dict[str, Any]) -> ProfileKey:
    """The profile a stored canonical form stands for."""
    values = {**canonical, "required_tags": tuple(canonical.get("required_tags", ()))}
    return ProfileKey(task_type, Requirements(**values))
