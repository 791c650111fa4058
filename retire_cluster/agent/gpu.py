"""Graphics processors that tasks can compute on.

`has_gpu` means a dedicated card (or an NVIDIA board): what `gpu_required` is asked for. Graphics integrated in a
processor, displays of virtual machines and the GPUs of small boards are named but do not count: they share the
memory and seldom carry a compute stack.
"""

from dataclasses import dataclass

from retire_cluster.agent.host import MEGABYTE, Host, Unknown

_NVIDIA, _AMD, _INTEL = "0x10de", "0x1002", "0x8086"
_NAMES = {_NVIDIA: "NVIDIA", _AMD: "AMD", _INTEL: "Intel"}
# An APU's share of main memory is set in firmware, typically to 512 MB; dedicated cards have more than this.
_DEDICATED_MB = 2048
_INTEL_INTEGRATED_SLOT = "0000:00:02.0"  # where every Intel processor has its own graphics


@dataclass(frozen=True, slots=True)
class Gpus:
    usable: bool
    names: tuple[str, ...] = ()


def find(host: Host) -> Gpus:
    """Look at device nodes and the PCI data behind them. Raises Unknown where neither may be seen."""
    if host.platform in ("darwin", "win32"):
        raise Unknown("not detected on this platform")
    nvidia = _nvidia(host)
    nodes = host.names("/dev")  # refused on Android: unknown, not "none"
    cards = [_card(host, name) for name in _render_nodes(host, "dri" in nodes)]
    names = [*nvidia, *(name for _, name in cards if not (nvidia and name.startswith("NVIDIA")))]
    usable = bool(nvidia) or any(dedicated for dedicated, _ in cards)
    return Gpus(usable, tuple(name[:255] for name in names[:16]))


def _nvidia(host: Host) -> list[str]:
    """Names from the driver, which is loaded exactly where CUDA can work."""
    try:
        slots = host.names("/proc/driver/nvidia/gpus")
    except Unknown:
        return ["NVIDIA"] if host.exists("/dev/nvidia0") else []
    return [_nvidia_model(host, slot) for slot in slots]


def _nvidia_model(host: Host, slot: str) -> str:
    try:
        lines = host.text(f"/proc/driver/nvidia/gpus/{slot}/information").splitlines()
    except Unknown:
        return "NVIDIA"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return models[0] if models else "NVIDIA"


def _render_nodes(host: Host, present: bool) -> list[str]:
    return [name for name in host.names("/dev/dri") if name.startswith("renderD")] if present else []


def _card(host: Host, node: str) -> tuple[bool, str]:
    """(dedicated, name) of the card behind a render node."""
    device = f"/sys/class/drm/{node}/device"
    try:
        vendor = host.text(f"{device}/vendor")
    except Unknown:
        return False, f"{node} (not on PCI)"
    name = f"{_NAMES.get(vendor, 'PCI vendor')} {_device_id(host, device) or vendor}"
    if vendor == _NVIDIA:
        return True, name
    if vendor == _AMD:
        return _video_memory_mb(host, device) > _DEDICATED_MB, name
    if vendor == _INTEL:
        return host.path(device).resolve().name != _INTEL_INTEGRATED_SLOT, name
    return False, name


def _device_id(host: Host, device: str) -> str:
    try:
        return host.text(f"{device}/device")
    except Unknown:
        return ""


def _video_memory_mb(host: Host, device: str) -> int:
    try:
        return host.number(f"{device}/mem_info_vram_total") // MEGABYTE
    except Unknown:
        return 0
