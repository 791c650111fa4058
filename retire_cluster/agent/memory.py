"""Memory of the device, in MB: the machine's, or the container's share of it."""

import sys
from collections.abc import Iterator

from retire_cluster.agent.host import MEGABYTE, Host, Unknown, run

_KILOBYTES = MEGABYTE // 1024


def total_mb(host: Host) -> int:
    """Usable memory. Raises Unknown."""
    if host.platform == "darwin":
        return int(run(["sysctl", "-n", "hw.memsize"])) // MEGABYTE
    if host.platform == "win32":
        return _windows()[0]
    total = _meminfo(host, "MemTotal")
    return min([total, *_limits(host, "memory.max")])


def available_mb(host: Host) -> int:
    """Memory a new task could take. Raises Unknown."""
    if host.platform == "win32":
        return _windows()[1]
    if host.platform == "darwin":
        return _psutil_available()
    free = [_meminfo(host, "MemAvailable")]
    limits, used = list(_limits(host, "memory.max")), list(_limits(host, "memory.current"))
    if limits and used:
        free.append(max(0, min(limits) - used[0]))
    return min(free)


def _meminfo(host: Host, name: str) -> int:
    for line in host.text("/proc/meminfo").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) // _KILOBYTES
    raise Unknown(f"/proc/meminfo has no {name}")


def _limits(host: Host, name: str) -> Iterator[int]:
    """Figures of the cgroups around this process, innermost first; "max" is no limit."""
    for text in host.cgroup_texts(name):
        if text.isdigit():
            yield int(text) // MEGABYTE


def _psutil_available() -> int:
    try:
        import psutil
    except ImportError:
        raise Unknown("needs the package psutil on this platform") from None
    return int(psutil.virtual_memory().available) // MEGABYTE


if sys.platform == "win32":
    import ctypes

    class _Status(ctypes.Structure):
        """MEMORYSTATUSEX."""

        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "available", "a", "b", "c", "d", "e")),
        ]

    def _windows() -> tuple[int, int]:
        """(total, available) from GlobalMemoryStatusEx."""
        status = _Status()
        status.length = ctypes.sizeof(status)
        if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            raise Unknown("GlobalMemoryStatusEx failed")
        return int(status.total) // MEGABYTE, int(status.available) // MEGABYTE

else:

    def _windows() -> tuple[int, int]:
        raise Unknown("only Windows has this")
