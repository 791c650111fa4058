"""What this device can do. Each probe stands alone; what it cannot tell is None with a reason, never 0."""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from retire_cluster.agent import gpu, memory, power
from retire_cluster.agent.host import MEGABYTE, Host, Unknown, run
from retire_cluster.protocol.messages import Capabilities
from retire_cluster.protocol.states import Platform

T = TypeVar("T")
NOT_CHECKED = "not checked yet"


def detect(host: Host, data_dir: Path) -> Capabilities:
    """All static capabilities but the internet, which takes its time. May block for seconds on odd devices."""
    kind = platform_of(host)
    probes: Mapping[str, Callable[[], Any]] = {
        "cpu_count": lambda: cpu_count(host),
        "memory_total_mb": lambda: memory.total_mb(host),
        "storage_total_mb": lambda: storage_mb(data_dir)[0],
        "has_battery": lambda: power.has_battery(host, kind),
        "cpu_model": lambda: cpu_model(host),
    }
    unknown: dict[str, str] = {"has_internet": NOT_CHECKED}
    found = {name: _ask(probe, name, unknown) for name, probe in probes.items()}
    gpus = _ask(lambda: gpu.find(host), "has_gpu", unknown)
    return Capabilities(
        platform=kind,
        hostname=socket.gethostname().encode(errors="replace").decode()[:255],
        python_version=".".join(map(str, sys.version_info[:3])),
        os_version=os_version(host)[:255],
        architecture=_machine()[:255],
        cpu_count=found["cpu_count"],
        memory_total_mb=found["memory_total_mb"],
        storage_total_mb=found["storage_total_mb"],
        has_battery=found["has_battery"],
        cpu_model=(found["cpu_model"] or "")[:255],
        has_gpu=None if gpus is None else gpus.usable,
        gpu_names=() if gpus is None else gpus.names,
        unknown=unknown,
    )


def _ask(probe: Callable[[], T], name: str, unknown: dict[str, str]) -> T | None:
    """The probe's answer. An odd device must not keep the agent from joining, whatever the probe meets."""
    try:
        return probe()
    except Unknown as reason:
        unknown[name] = str(reason)[:500]
    except (OSError, ValueError, ArithmeticError, LookupError, AttributeError, ImportError) as error:
        unknown[name] = f"the probe failed: {type(error).__name__}: {error}"[:500]
    return None


def platform_of(host: Host) -> Platform:
    """Android reports itself as linux up to Python 3.12, so it is asked first; other Unixes count as linux."""
    if host.platform in ("win32", "cygwin"):
        return Platform.WINDOWS
    if host.platform == "darwin":
        return Platform.DARWIN
    on_android = host.platform == "android" or host.has_android_api
    if on_android or "TERMUX_VERSION" in host.environ or "ANDROID_ROOT" in host.environ:
        return Platform.ANDROID
    return Platform.LINUX


def cpu_count(host: Host) -> int:
    """Usable logical cores: what the scheduler allows, within the cgroup's quota (rounded down, at least 1)."""
    allowed = host.affinity()
    if not allowed:
        raise Unknown("the system does not tell the number of cores")
    quotas = [quota for text in host.cgroup_texts("cpu.max") if (quota := _quota(text)) is not None]
    return max(1, min([allowed, *quotas]))


def _quota(text: str) -> int | None:
    quota, _, period = text.partition(" ")
    if not (quota.isdigit() and period.isdigit() and int(period) > 0):
        return None
    return int(quota) // int(period)


def storage_mb(directory: Path) -> tuple[int, int]:
    """(total, free to this user) of the file system that holds the directory, in MB."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    if hasattr(os, "statvfs"):
        status = os.statvfs(directory)
        return status.f_blocks * status.f_frsize // MEGABYTE, status.f_bavail * status.f_frsize // MEGABYTE
    import shutil

    usage = shutil.disk_usage(directory)
    return usage.total // MEGABYTE, usage.free // MEGABYTE


def os_version(host: Host) -> str:
    """The distribution's own name, else the kernel's release."""
    try:
        for line in host.text("/etc/os-release").splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip("\"'")
    except Unknown:
        pass  # Android, macOS and Windows have no such file
    if hasattr(os, "uname"):
        system = os.uname()
        return f"{system.sysname} {system.release}"
    import platform

    return platform.platform()


def _machine() -> str:
    if hasattr(os, "uname"):
        return os.uname().machine
    import platform

    return platform.machine()


def cpu_model(host: Host) -> str:
    """A board's name (Raspberry Pi 4 Model B) before the processor's."""
    for path in ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model"):
        if host.exists(path):
            return host.text(path)
    if host.platform == "darwin":
        return run(["sysctl", "-n", "machdep.cpu.brand_string"])
    fields = [line.partition(":") for line in host.text("/proc/cpuinfo").splitlines()]
    names = {name.strip(): value.strip() for name, _, value in fields}
    for name in ("model name", "Hardware", "Processor", "cpu model"):
        if names.get(name):
            return names[name]
    raise Unknown("/proc/cpuinfo names no model")
