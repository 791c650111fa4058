"""Gathers the facts. Nothing secret is sent, nothing is changed but a file that is written and removed again."""

import asyncio
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from retire_cluster.agent.address import Address, Trust
from retire_cluster.agent.config import AgentConfig
from retire_cluster.agent.doctor.clock import clock_ahead
from retire_cluster.agent.doctor.facts import Facts, Gateway, Keeping
from retire_cluster.agent.errors import ConfigError
from retire_cluster.agent.execution import custom
from retire_cluster.agent.host import MEGABYTE, Unknown, run
from retire_cluster.agent.identity import Identity
from retire_cluster.agent.keeping import settings as remembered
from retire_cluster.agent.keeping.keepers import Keeper, Systemd, installed
from retire_cluster.agent.life import Device
from retire_cluster.agent.metrics import Sampler, boot_clock
from retire_cluster.agent.policy import Pause, judge
from retire_cluster.agent.power import TERMUX_TOOL
from retire_cluster.agent.probe import platform_of, storage_mb
from retire_cluster.agent.repin import is_known
from retire_cluster.agent.waycheck import TIMEOUT_S, Step, walk

# Documentation addresses: a connected UDP socket sends nothing, but needs a route.
_ROUTES = {4: (socket.AF_INET, "192.0.2.1"), 6: (socket.AF_INET6, "2001:db8::1")}
_FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 6}
_PHANTOM = "settings_enable_monitor_phantom_procs"


async def look(device: Device, config: AgentConfig | None, problem: str | None) -> Facts:
    """One look at the device; `problem` is why there is no config. Takes some seconds where things are wrong."""
    host = device.place.host
    return Facts(
        platform=platform_of(host),
        python=sys.version_info[:2],
        is_root=hasattr(os, "geteuid") and os.geteuid() == 0,
        settings_problem=problem,
        has_joined=device.has_joined(),
        was_member=bool(remembered.load(device.state_dir)),  # stored at joining
        gateways=await _gateways(device, config),
        own_families=frozenset(version for version, route in _ROUTES.items() if _has_route(*route)),
        handlers_problem=await _handlers_problem(config),
        pause=None if config is None else await asyncio.to_thread(_pause, device, config),
        agent=device.runs(),
        keepers=tuple(_keeping(keeper) for keeper in installed(device.place)),
        keep_command=device.command("keep"),
        **_directory(device),
        **_limits(),
        **_android(device),
    )


def _directory(device: Device) -> dict[str, Any]:
    where = device.state_dir
    while not where.exists() and where != where.parent:
        where = where.parent
    return {
        "data_dir": str(device.data_dir),
        "unwritable": _unwritable(where),
        "free_mb": storage_mb(where)[1],
    }


def _unwritable(directory: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _limits() -> dict[str, Any]:
    if sys.platform == "win32":
        return {}
    import resource

    def soft(number: int, unit: int = 1) -> int | None:
        limit = resource.getrlimit(number)[0]
        return None if limit == resource.RLIM_INFINITY else limit // unit

    return {
        "open_files": soft(resource.RLIMIT_NOFILE),
        "processes": soft(resource.RLIMIT_NPROC),
        "address_space_mb": soft(resource.RLIMIT_AS, MEGABYTE),
    }


# --- Android ----------------------------------------------------------------------------------------------------


def _android(device: Device) -> dict[str, Any]:
    host = device.place.host
    if "TERMUX_VERSION" not in host.environ:
        return {}
    sdk = _said("getprop", "ro.build.version.sdk")
    return {
        "termux": True,
        "termux_api": host.find_program(TERMUX_TOOL) is not None,
        "wake_lock_tool": host.find_program("termux-wake-lock") is not None,
        "battery_exempt": _battery_exempt(),
        "android_sdk": int(sdk) if sdk is not None and sdk.isdigit() else None,
        "phantom_killer": _phantom_killer(),
    }


def _said(*words: str) -> str | None:
    """What a program of Android prints; None where it is missing or not allowed."""
    try:
        return run(list(words))
    except Unknown:
        return None


def _battery_exempt() -> bool | None:
    """Many devices do not let an app ask."""
    said = _said("cmd", "deviceidle", "whitelist")
    return None if not said else "com.termux" in said


def _phantom_killer() -> bool | None:
    for words in (
        ("settings", "get", "global", _PHANTOM),
        ("getprop", f"persist.sys.fflag.override.{_PHANTOM}"),
    ):
        said = _said(*words)
        if said in ("true", "false"):
            return said == "true"
    return None


# --- the cluster ------------------------------------------------------------------------------------------------


async def _gateways(device: Device, config: AgentConfig | None) -> tuple[Gateway, ...]:
    if config is None:
        return ()
    identity = device.identity()
    token = config.find_token()
    trust = Trust() if token is None else Trust.of_token(token)
    if trust == Trust() and identity is not None:
        trust = identity.trust
    return tuple([await _gateway(address, trust, config.ca_file, identity) for address in config.join])


async def _gateway(address: Address, trust: Trust, ca_file: str | None, identity: Identity | None) -> Gateway:
    steps: list[Step] = []
    clear = await walk(address, trust, ca_file, steps.append)
    last = steps[-1]
    ahead, within, knows = None, 0.0, None
    if clear:
        is_plain = any(step.name == "link" and step.words.startswith("plain") for step in steps)
        ahead, within = await asyncio.to_thread(clock_ahead, address, tls=not is_plain)
        if identity is not None and identity.secret is not None:
            own = is_plain or ca_file is None
            knows = await is_known(
                address, identity.device_id, identity.secret, TIMEOUT_S, tls=not is_plain, own_certificate=own
            )
    return Gateway(
        str(address),
        is_clear=clear,
        stopped_at="" if clear else last.name,
        words=last.words,
        families=await _families_of(address) if steps[0].passed else frozenset(),
        clock_ahead_s=ahead,
        clock_within_s=within,
        knows_device=knows,
    )


async def _families_of(address: Address) -> frozenset[int]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port)
    except OSError:
        return frozenset()
    if all(entry[4][0] in ("127.0.0.1", "::1") for entry in found):
        return frozenset()  # needs no network
    return frozenset(_FAMILIES[entry[0]] for entry in found if entry[0] in _FAMILIES)


def _has_route(family: socket.AddressFamily, destination: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((destination, 9))
    except OSError:
        return False
    return True


# --- the agent --------------------------------------------------------------------------------------------------


async def _handlers_problem(config: AgentConfig | None) -> str | None:
    if config is None:
        return None
    try:
        _, problems = await custom.discover(config.handlers)
    except ConfigError as error:
        return str(error).splitlines()[0]
    return "; ".join(problems) or None


def _pause(device: Device, config: AgentConfig) -> str | None:
    metrics = Sampler(device.place.host, device.data_dir).sample()
    return judge(config.limits, Pause(), metrics, boot_clock()).reason


def _keeping(keeper: Keeper) -> Keeping:
    lingers = keeper.lingers() if isinstance(keeper, Systemd) else None
    return Keeping(keeper.kind, keeper.trouble(), lingers)
