"""A role and tags for a device whose operator named none. Pure."""

from retire_cluster.protocol.messages import Capabilities
from retire_cluster.protocol.states import Platform, Role

_COMPUTE_CORES = 8
_COMPUTE_MEMORY_MB = 15 * 1024  # a machine sold with 16 GB keeps some for firmware and graphics
_STORAGE_MB = 2 * 1024 * 1024
_STORAGE_CORES = 4
_NAS_WORDS = ("synology", "diskstation", "qnap", "truenas", "openmediavault", "unraid")
_ARM64 = ("aarch64", "arm64")


def role(capabilities: Capabilities) -> Role:
    """mobile: Android. storage: a NAS, or much disk behind few cores. compute: 8 cores and 16 GB."""
    if capabilities.platform is Platform.ANDROID:
        return Role.MOBILE
    if _is_nas(capabilities):
        return Role.STORAGE
    cores, memory = capabilities.cpu_count or 0, capabilities.memory_total_mb or 0
    if cores >= _COMPUTE_CORES and memory >= _COMPUTE_MEMORY_MB:
        return Role.COMPUTE
    if (capabilities.storage_total_mb or 0) >= _STORAGE_MB and 0 < cores <= _STORAGE_CORES:
        return Role.STORAGE
    return Role.WORKER


def _is_nas(capabilities: Capabilities) -> bool:
    hostname = capabilities.hostname.lower()
    words = f"{hostname} {capabilities.os_version.lower()}"
    return any(word in words for word in _NAS_WORDS) or "nas" in hostname.replace("_", "-").split("-")


def tags(capabilities: Capabilities, *, termux: bool = False) -> tuple[str, ...]:
    """What requirements like to name: gpu-capable, arm64, raspberry-pi, battery, termux."""
    found = {
        "gpu-capable": capabilities.has_gpu is True,
        "arm64": capabilities.architecture.lower() in _ARM64,
        "raspberry-pi": capabilities.cpu_model.startswith("Raspberry Pi"),
        "battery": capabilities.has_battery is True,
        "termux": termux,
    }
    return tuple(tag for tag, fits in found.items() if fits)
