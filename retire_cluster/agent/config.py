"""The agent's settings, validated: each problem is one ConfigError that names the flag."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from retire_cluster.agent.address import Address
from retire_cluster.agent.errors import ConfigError
from retire_cluster.agent.policy import Limits
from retire_cluster.protocol.messages import DeviceId
from retire_cluster.protocol.states import Role

DEFAULT_DATA_DIR = "~/.retire-cluster"
MAX_TAGS = 32
MAX_SLOTS = 512  # what an agent holds has to fit into the first frame of a connection
MAX_TOKEN = 256
LOWEST_LIMIT_C, HIGHEST_LIMIT_C = 20, 120
_DEVICE_ID = get_args(DeviceId)[1]
# Any of them will do; addresses, not names, so that a broken resolver does not count as "no internet".
INTERNET_PROBES = (Address("1.1.1.1", 443), Address("8.8.8.8", 53), Address("9.9.9.9", 443))


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations in seconds that no operator needs to change; tests do."""

    connect_s: float = 10.0  # name, TCP, TLS and WebSocket handshake together
    welcome_s: float = 15.0  # from register to welcome
    silence_margin_s: float = 15.0  # on top of the heartbeat interval, without any frame from the gateway
    first_retry_s: float = 0.2
    longest_retry_s: float = 30.0
    stable_s: float = 30.0  # a connection that held this long starts the back-off anew
    replaced_s: float = 60.0  # two agents with one identity must not fight for it
    sync_s: float = 1.0  # a result unacknowledged for so long is forced to the medium
    forget_s: float = 24 * 3600.0  # finished attempts are remembered at least this long
    farewell_s: float = 1.5  # to get the goodbye out when stopping
    deliver_s: float = 30.0  # for results to be acknowledged before the device leaves the cluster
    leave_s: float = 15.0  # for the gateway to confirm that it left
    care_s: float = 30.0  # between looks at battery and temperature, where the owner set a limit


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything an agent is told. Empty or None means: find out."""

    join: tuple[Address, ...]
    data_dir: Path
    state_dir: Path
    token: str | None = None
    device_id: str | None = None
    role: Role | None = None
    tags: tuple[str, ...] = ()
    task_types: tuple[str, ...] = ()  # offer only these of the known types; empty: all
    handlers: tuple[str, ...] = ()  # modules with handlers of custom task types
    slots: int | None = None
    max_memory_mb: int | None = None
    ca_file: str | None = None
    insecure_plain: bool = False
    rejoin: bool = False
    pause_on_battery: int | None = None  # percent; no new task on battery with so much or less
    pause_above: float | None = None  # degrees Celsius; no new task while it is so hot or hotter
    allow_private_http: bool = False  # http_request may ask addresses of the device's own networks
    internet_probes: tuple[Address, ...] = INTERNET_PROBES
    timing: Timing = Timing()

    @property
    def limits(self) -> Limits:
        """Beyond them no new task is taken."""
        return Limits(self.pause_on_battery, self.pause_above)

    def find_token(self) -> str | None:
        """The join token: the given one, else the one a gateway on this machine left in the data directory."""
        if self.token is not None or not any(address.is_loopback for address in self.join):
            return self.token
        try:
            return check_token((self.data_dir / "join-token").read_text().strip(), "join-token")
        except (OSError, UnicodeDecodeError, ConfigError):
            return None


def check_token(token: str, flag: str = "--token") -> str:
    """The token, if it can be one. Never repeats it: messages reach logs."""
    if not token or len(token) > MAX_TOKEN or not token.isprintable() or " " in token:
        raise ConfigError(f"{flag}: must be 1 to {MAX_TOKEN} printable characters without blanks")
    return token


def read_token_file(path: str) -> str:
    """The token in a file, without the line end."""
    try:
        return check_token(Path(path).expanduser().read_text().strip(), f"--token-file {path}")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"--token-file: cannot read {path}: {reason}") from None


def check_device_id(text: str) -> str:
    if not re.fullmatch(_DEVICE_ID.regex, text) or text == "summary":
        raise ConfigError(f"--device-id: {text!r} must be {_DEVICE_ID.words}, and not 'summary'")
    return text


def check_role(text: str) -> Role:
    try:
        return Role(text.lower())
    except ValueError:
        raise ConfigError(f"--role: {text!r} must be one of {', '.join(Role)}") from None


def parse_list(text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list, without blanks and repetitions, in order."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    found = tuple(tags)
    if len(found) > MAX_TAGS:
        raise ConfigError(f"--tags: at most {MAX_TAGS} tags, got {len(found)}")
    for tag in found:
        if not re.fullmatch(_DEVICE_ID.regex, tag):
            raise ConfigError(f"--tags: {tag!r} must be {_DEVICE_ID.words}")
    return found


def check_task_types(names: tuple[str, ...], known: Iterable[str]) -> tuple[str, ...]:
    """The names, if this agent knows them all."""
    offered = sorted(known)
    for name in names:
        if name not in offered:
            raise ConfigError(
                f"--task-types: {name!r} is not a type of this agent; it has {', '.join(offered)}"
            )
    return names


def check_handlers(names: tuple[str, ...]) -> tuple[str, ...]:
    """Modules by name (`package.module`) or by file (`handlers/words.py`)."""
    for name in names:
        if name.endswith(".py"):
            if not Path(name).expanduser().is_file():
                raise ConfigError(f"--handlers: there is no file {name}")
        elif "." in name and Path(name).expanduser().is_file():
            raise ConfigError(f"--handlers: a file has to end in .py, {name} does not")
        elif not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"--handlers: {name!r} is neither a module's name nor a file that ends in .py")
    return names


def check_slots(text: str) -> int:
    try:
        slots = int(text)
    except ValueError:
        slots = 0
    if not 1 <= slots <= MAX_SLOTS:
        raise ConfigError(f"--slots: {text!r} must be a whole number, 1 to {MAX_SLOTS}")
    return slots


def check_memory_gb(text: str) -> int:
    """GB (2^30 bytes), fractions allowed, as MB (2^20 bytes)."""
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes <= 2**20:
        raise ConfigError(f"--max-memory-gb: {text!r} must be a number above 0")
    return max(1, int(gigabytes * 1024))


def check_battery_percent(text: str) -> int:
    try:
        percent = int(text)
    except ValueError:
        percent = 0
    if not 1 <= percent <= 100:
        raise ConfigError(f"--pause-on-battery: {text!r} must be a whole number of percent, 1 to 100")
    return percent


def check_celsius(text: str) -> float:
    try:
        degrees = float(text)
    except ValueError:
        degrees = 0.0
    if not LOWEST_LIMIT_C <= degrees <= HIGHEST_LIMIT_C:
        bounds = f"{LOWEST_LIMIT_C} to {HIGHEST_LIMIT_C}"
        raise ConfigError(f"--pause-above: {text!r} must be a number of degrees Celsius, {bounds}")
    return degrees


def check_ca_file(path: str) -> str:
    expanded = os.path.expanduser(path)
    if not os.access(expanded, os.R_OK):
        raise ConfigError(f"--ca: cannot read {path}; give a PEM file with the authority's certificate")
    return expanded
