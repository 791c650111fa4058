"""The checks, one small function each: facts in, one finding out, None where it concerns no such device. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from retire_cluster.agent.doctor.facts import Facts, Gateway
from retire_cluster.protocol.states import Platform

OLDEST_PYTHON = (3, 11)
FULL_MB, NEARLY_FULL_MB = 50, 500
FEW_FILES, FEW_PROCESSES, LITTLE_MEMORY_MB = 256, 128, 512
SKEW_S = 5.0  # beyond it times in logs mislead, and young certificates are not valid yet
PHANTOM_SDK = 31  # Android 12


class Level(StrEnum):
    """How bad it is: `fail` keeps the device from working, `warn` may."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it."""

    level: Level
    words: str
    fix: str = ""


def ok(words: str) -> Finding:
    return Finding(Level.OK, words)


def warn(words: str, fix: str) -> Finding:
    return Finding(Level.WARN, words, fix)


def fail(words: str, fix: str) -> Finding:
    return Finding(Level.FAIL, words, fix)


# --- the machine ------------------------------------------------------------------------------------------------


def python(facts: Facts) -> Finding:
    version = ".".join(map(str, facts.python))
    if facts.python < OLDEST_PYTHON:
        return fail(f"Python {version} is too old", "install Python 3.11 or newer")
    return ok(f"Python {version}")


def user(facts: Facts) -> Finding:
    if facts.is_root:
        return warn(
            "the agent would run as root, and so would every task",
            "run it as a user of its own, without sudo",
        )
    return ok("not root")


def directory(facts: Facts) -> Finding:
    if facts.unwritable is not None:
        return fail(
            f"{facts.data_dir} cannot be written: {facts.unwritable}",
            "give it to the agent's user, or choose another with --data-dir",
        )
    return ok(f"{facts.data_dir} can be written")


def disk(facts: Facts) -> Finding | None:
    if facts.free_mb is None:
        return None
    words = f"{facts.free_mb} MB free"
    if facts.free_mb < FULL_MB:
        return fail(f"{words}: the agent takes no task when it cannot write", "make room on the disk")
    if facts.free_mb < NEARLY_FULL_MB:
        return warn(words, "make room on the disk")
    return ok(words)


def limits(facts: Facts) -> Finding:
    low = [
        f"{name} {limit} (at least {least})"
        for name, limit, least in (
            ("open files", facts.open_files, FEW_FILES),
            ("processes", facts.processes, FEW_PROCESSES),
            ("address space in MB", facts.address_space_mb, LITTLE_MEMORY_MB),
        )
        if limit is not None and limit < least
    ]
    if low:
        return warn(
            f"low limits: {', '.join(low)}", "raise them with ulimit, or in /etc/security/limits.conf"
        )
    return ok("limits of this user are high enough")


def windows(facts: Facts) -> Finding | None:
    if facts.platform is not Platform.WINDOWS:
        return None
    return warn("Windows is experimental", "use Linux or Android where it matters")


# --- Android ----------------------------------------------------------------------------------------------------


def battery_optimisation(facts: Facts) -> Finding | None:
    fix = "Android's settings, Apps, Termux, Battery: Unrestricted"
    if not facts.termux:
        return None
    if facts.battery_exempt:
        return ok("Termux is exempt from battery optimisation")
    if facts.battery_exempt is None:
        return warn("Android does not say whether it may suspend Termux to save power", fix)
    return warn("Android may suspend Termux to save power", fix)


def phantom_processes(facts: Facts) -> Finding | None:
    if not facts.termux or facts.android_sdk is None or facts.android_sdk < PHANTOM_SDK:
        return None
    if facts.phantom_killer is False:
        return ok("Android does not end child processes")
    says = "ends" if facts.phantom_killer else "may end"
    return warn(
        f"Android {says} child processes when there are more than 32 (phantom process killer)",
        "Developer options, Disable child process restrictions; where there is no such switch, from a computer: "
        "adb shell settings put global settings_enable_monitor_phantom_procs false",
    )


def wake_lock(facts: Facts) -> Finding | None:
    if not facts.termux:
        return None
    if not facts.wake_lock_tool:
        return fail("there is no termux-wake-lock", "pkg install termux-tools")
    if any(keeper.kind == "termux" for keeper in facts.keepers):
        return ok("the keeper holds the wake lock")
    return warn(
        "nothing holds the wake lock: with the screen off the processor sleeps",
        f"run termux-wake-lock, or {facts.keep_command}",
    )


def sensors(facts: Facts) -> Finding | None:
    if not facts.termux or facts.termux_api:
        return None
    return warn(
        "battery and temperature cannot be read", "install the app Termux:API, then: pkg install termux-api"
    )


# --- the cluster ------------------------------------------------------------------------------------------------


def settings(facts: Facts) -> Finding | None:
    if facts.settings_problem is None:
        return None
    return fail(facts.settings_problem, "give the flags the agent runs with, at least --join HOST[:PORT]")


_REJOIN = (
    "to have it back, start it with --rejoin, --join HOST[:PORT] and --token; to be done with it, --leave"
)


def membership(facts: Facts) -> Finding:
    told = {item.knows_device for item in facts.gateways}
    if facts.has_joined and True in told:
        return ok("the device has joined, and the cluster knows it")
    if facts.has_joined and False in told:
        return fail("the cluster does not know this device any more: an operator removed it", _REJOIN)
    if facts.has_joined:
        return ok(
            "the device has a secret of its own; whether the cluster still knows it, the next connection tells"
        )
    if facts.was_member:
        return fail("the device is no longer in the cluster: an operator removed it", _REJOIN)
    return warn("the device has not joined a cluster", "start it with --join and --token")


def name(facts: Facts) -> Finding | None:
    return _step(facts, "name", "use the gateway's address, or repair the name server")


def port(facts: Facts) -> Finding | None:
    return _step(facts, "port", "start the gateway, and open its port in firewalls between")


def certificate(facts: Facts) -> Finding | None:
    return _step(facts, "gateway", "see what answers there; take a new token from the gateway it should be")


_STEPS = ("name", "port", "gateway")


def _step(facts: Facts, step: str, fix: str) -> Finding | None:
    """The worst of all gateways at this step; None where none came so far."""
    reached = [
        item
        for item in facts.gateways
        if item.is_clear or _STEPS.index(item.stopped_at) >= _STEPS.index(step)
    ]
    failed = [item for item in reached if item.stopped_at == step]
    if not reached:
        return None
    if not failed:
        return ok(f"{', '.join(item.address for item in reached)}: {step} is all right")
    words = "; ".join(f"{item.address}: {item.words}" for item in failed)
    others = any(item.is_clear for item in facts.gateways)
    return warn(words, fix) if others else fail(words, fix)


def families(facts: Facts) -> Finding | None:
    known = [item for item in facts.gateways if item.families]
    if not known:
        return None
    if not facts.own_families:
        return fail("this device is on no network", "connect it")
    for item in known:
        if not item.families & facts.own_families:
            ours, theirs = _versions(facts.own_families), _versions(item.families)
            return fail(
                f"this device has {ours} only, {item.address} {theirs} only",
                f"give the gateway an {ours} address, or this device {theirs}",
            )
    return ok(f"this device has {_versions(facts.own_families)}")


def _versions(found: frozenset[int]) -> str:
    return " and ".join(f"IPv{version}" for version in sorted(found))


def clock(facts: Facts) -> Finding | None:
    told = [item for item in facts.gateways if item.clock_ahead_s is not None]
    if not told:
        return None
    worst = max(told, key=_surely_off)
    if _surely_off(worst) <= SKEW_S:
        return ok("this clock goes as the gateway's")
    ahead = worst.clock_ahead_s or 0.0
    side = "behind" if ahead > 0 else "ahead of"
    return warn(
        f"this clock is {abs(ahead):.0f} s {side} that of {worst.address}: times in logs mislead, and with --ca "
        "its certificate may seem invalid",
        "set the clock, by NTP best (timedatectl set-ntp true)",
    )


def _surely_off(item: Gateway) -> float:
    """Seconds by which the clocks differ at least, whatever part of the round trip the answer took."""
    return max(0.0, abs(item.clock_ahead_s or 0.0) - item.clock_within_s)


# --- the agent --------------------------------------------------------------------------------------------------


def handlers(facts: Facts) -> Finding | None:
    if facts.handlers_problem is None:
        return None
    return fail(facts.handlers_problem, "repair the module, or leave it out of --handlers")


def pause(facts: Facts) -> Finding | None:
    if facts.pause is None:
        return None
    return warn(f"paused: {facts.pause}", "plug it in or let it cool; the limits are its owner's flags")


def keeper(facts: Facts) -> Finding | None:
    if not facts.has_joined:
        return None
    if not facts.keepers:
        return warn("nothing starts the agent again after a reboot", facts.keep_command)
    for item in facts.keepers:
        if item.trouble is not None and facts.agent is not None:
            return warn(
                f"the agent that runs (process {facts.agent}) was started by hand; {item.kind} keeps it, "
                f"but {item.trouble}",
                f"to have it kept now, stop that agent, then {facts.keep_command}",
            )
        if item.trouble is not None:
            return fail(f"{item.kind} keeps it, but {item.trouble}", f"repair it, then {facts.keep_command}")
    return ok(f"{facts.keepers[0].kind} keeps it running")


def lingering(facts: Facts) -> Finding | None:
    if all(item.lingers is not False for item in facts.keepers):
        return None
    return warn(
        "it ends when its user logs out, and does not start at boot", "sudo loginctl enable-linger $USER"
    )


def agent(facts: Facts) -> Finding | None:
    if facts.agent is not None:
        return ok(f"the agent runs (process {facts.agent})")
    if facts.platform is Platform.WINDOWS or not facts.has_joined:
        return None  # not to be told there; nothing to run
    return warn("the agent does not run", f"start it, or {facts.keep_command}")


CHECKS: Mapping[str, Callable[[Facts], Finding | None]] = {
    "python": python,
    "user": user,
    "data directory": directory,
    "disk": disk,
    "limits": limits,
    "windows": windows,
    "battery optimisation": battery_optimisation,
    "phantom processes": phantom_processes,
    "wake lock": wake_lock,
    "sensors": sensors,
    "settings": settings,
    "membership": membership,
    "name": name,
    "port": port,
    "gateway": certificate,
    "network": families,
    "clock": clock,
    "handlers": handlers,
    "pause": pause,
    "keeper": keeper,
    "lingering": lingering,
    "agent": agent,
}


def examine(facts: Facts) -> dict[str, Finding]:
    """The findings of every check that concerns the device, by its name."""
    found = {name: check(facts) for name, check in CHECKS.items()}
    return {name: finding for name, finding in found.items() if finding is not None}


def as_text(findings: Mapping[str, Finding]) -> list[str]:
    """One line for each finding."""
    return [
        f"{item.level:<4}  {name}: {item.words}{f'. {item.fix}' if item.fix else ''}"
        for name, item in findings.items()
    ]


def as_json(findings: Mapping[str, Finding]) -> list[dict[str, str]]:
    """The findings for programs."""
    return [
        {"check": name, "level": item.level, "words": item.words, "fix": item.fix}
        for name, item in findings.items()
    ]
