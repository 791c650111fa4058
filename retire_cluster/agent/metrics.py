"""What the device is doing now, for heartbeats. Unknown is None, never 0."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from retire_cluster.agent import memory, power
from retire_cluster.agent.host import Host, Unknown
from retire_cluster.agent.probe import platform_of, storage_mb
from retire_cluster.protocol.messages import Metrics
from retire_cluster.protocol.states import Platform

T = TypeVar("T")


def boot_clock() -> float:
    """Seconds on a clock that never jumps and, where the system has one, runs on through suspend."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Sampler:
    """Takes the figures; remembers the processor times of the last call. Calls may block: use a thread."""

    def __init__(self, host: Host, data_dir: Path) -> None:
        self._host = host
        self._data_dir = data_dir
        self._termux = power.TermuxBattery(host) if platform_of(host) is Platform.ANDROID else None
        self._times = _or_none(lambda: _processor_times(host))

    def sample(self) -> Metrics:
        total = _or_none(lambda: memory.total_mb(self._host))
        available = _or_none(lambda: memory.available_mb(self._host))
        storage = _or_none(lambda: storage_mb(self._data_dir))
        battery = _or_none(lambda: power.battery(self._host)) or (self._termux and self._termux.read())
        return Metrics(
            cpu_percent=self._cpu_percent(),
            memory_percent=_used_percent(total, available),
            memory_available_mb=available,
            storage_free_mb=None if storage is None else storage[1],
            load_1m=_or_none(_load),
            uptime_s=boot_clock(),
            battery_percent=battery.percent if battery else None,
            charging=battery.charging if battery else None,
            temperature_c=_or_none(lambda: power.temperature_c(self._host))
            or (battery.celsius if battery else None),
        )

    def _cpu_percent(self) -> float | None:
        """Busy share since the last call, else (Android denies /proc/stat) load per core."""
        before, now = self._times, _or_none(lambda: _processor_times(self._host))
        self._times = now
        if now is None:
            return _or_none(lambda: _load_percent(self._host))
        if before is None or now[1] <= before[1]:
            return None
        share = (now[0] - before[0]) / (now[1] - before[1])
        return round(100 * min(1.0, max(0.0, share)), 1)


def _or_none(probe: Callable[[], T]) -> T | None:
    """The probe's figure; heartbeats carry no reasons, the capabilities named them at the start."""
    try:
        return probe()
    except (Unknown, OSError, ValueError, LookupError, AttributeError):
        return None


def _processor_times(host: Host) -> tuple[int, int]:
    """(busy, total) ticks since boot, from the first line of /proc/stat."""
    name, *ticks = host.text("/proc/stat").partition("\n")[0].split()
    if name != "cpu" or len(ticks) < 4:
        raise Unknown("/proc/stat has another format")
    figures = [int(tick) for tick in ticks[:8]]  # guest times are part of user time already
    idle = sum(figures[3:5])  # idle and waiting for a disk
    return sum(figures) - idle, sum(figures)


def _load() -> float:
    return os.getloadavg()[0]


def _load_percent(host: Host) -> float:
    cores = host.affinity()
    if not cores:
        raise Unknown("cores unknown")
    return round(min(100.0, 100 * _load() / cores), 1)


def _used_percent(total: int | None, available: int | None) -> float | None:
    if not total or available is None:
        return None
    return round(100 * min(1.0, max(0.0, 1 - available / total)), 1)
