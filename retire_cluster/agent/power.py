"""Battery and temperature, from Linux' /sys, Termux' own tool, or psutil where there is neither."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from retire_cluster.agent.host import Host, Unknown, run
from retire_cluster.protocol.states import Platform

_SUPPLIES = "/sys/class/power_supply"
_ZONES = "/sys/class/thermal"
_CPU_ZONES = ("cpu", "soc", "pkg", "core", "acpitz")
_PLUGGED = ("charging", "full", "not charging")
TERMUX_TOOL = "termux-battery-status"
TERMUX_EVERY_S = 30.0  # it starts a Java service each time
TERMUX_PAUSE_S = 600.0  # without the companion app it hangs: ask seldom


@dataclass(frozen=True, slots=True)
class Battery:
    """Charge in percent, whether the device is plugged in, and the battery's own heat. None: unknown."""

    percent: float | None
    charging: bool | None
    celsius: float | None = None


def has_battery(host: Host, platform: Platform) -> bool:
    """Whether the device itself has one (a wireless mouse's does not count). Raises Unknown."""
    if platform is Platform.ANDROID:
        return True
    if platform is Platform.LINUX:
        return bool(_batteries(host))
    return _psutil_battery() is not None


def battery(host: Host) -> Battery | None:
    """The battery's state; None when there is none. Raises Unknown."""
    if host.platform in ("darwin", "win32"):
        return _psutil_battery()
    names = _batteries(host)
    if not names:
        return None
    supply = f"{_SUPPLIES}/{names[0]}"
    status = host.text(f"{supply}/status").lower()
    percent = float(min(100, max(0, host.number(f"{supply}/capacity"))))
    return Battery(percent, None if status == "unknown" else status in _PLUGGED)


def _batteries(host: Host) -> list[str]:
    return [name for name in host.names(_SUPPLIES) if _is_battery(host, f"{_SUPPLIES}/{name}")]


def _is_battery(host: Host, supply: str) -> bool:
    try:
        if host.text(f"{supply}/type") != "Battery":
            return False
        return not host.exists(f"{supply}/scope") or host.text(f"{supply}/scope") != "Device"
    except Unknown:
        return False


def _psutil_battery() -> Battery | None:
    try:
        import psutil
    except ImportError:
        raise Unknown("needs the package psutil on this platform") from None
    found = psutil.sensors_battery()
    return None if found is None else Battery(float(found.percent), bool(found.power_plugged))


class TermuxBattery:
    """Termux' tool, asked seldom, and hardly ever once it failed."""

    def __init__(self, host: Host, clock: Callable[[], float] = time.monotonic) -> None:
        self._tool = host.find_program(TERMUX_TOOL)
        self._clock = clock
        self._next = clock()
        self._last: Battery | None = None

    def read(self) -> Battery | None:
        """The last known state; None when the tool is missing or silent."""
        if self._tool is None or self._clock() < self._next:
            return self._last
        try:
            self._last = _parse_termux(run([self._tool]))
            self._next = self._clock() + TERMUX_EVERY_S
        except Unknown:
            self._last = None
            self._next = self._clock() + TERMUX_PAUSE_S
        return self._last


def _parse_termux(text: str) -> Battery:
    try:
        found = json.loads(text)
        percent = float(found["percentage"])
        plugged = found.get("plugged")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unknown(f"{TERMUX_TOOL} answered something else: {error}") from None
    charging = None if plugged is None else plugged != "UNPLUGGED"
    return Battery(percent if 0 <= percent <= 100 else None, charging, _termux_celsius(found))


def _termux_celsius(found: dict[str, object]) -> float | None:
    """Android seldom lets an app read the processor's sensors; a hot phone has a hot battery too."""
    degrees = found.get("temperature")
    if isinstance(degrees, bool) or not isinstance(degrees, (int, float)):
        return None
    return float(degrees) if _is_plausible(degrees) else None


def _is_plausible(degrees: float) -> bool:
    """Sensors that are off report 0 or nonsense."""
    return 0 < degrees < 150


def temperature_c(host: Host) -> float:
    """The hottest sensor of the processor, else the hottest of all. Raises Unknown."""
    readings = [_zone(host, name) for name in host.names(_ZONES) if name.startswith("thermal_zone")]
    valid = [reading for reading in readings if reading is not None]
    cpu = [degrees for kind, degrees in valid if any(word in kind for word in _CPU_ZONES)]
    if not valid:
        raise Unknown("no temperature sensor can be read")
    return max(cpu or [degrees for _, degrees in valid])


def _zone(host: Host, name: str) -> tuple[str, float] | None:
    """(type, degrees Celsius); None where the sensor tells nothing."""
    try:
        degrees = host.number(f"{_ZONES}/{name}/temp") / 1000
        return (host.text(f"{_ZONES}/{name}/type").lower(), degrees) if _is_plausible(degrees) else None
    except Unknown:
        return None
