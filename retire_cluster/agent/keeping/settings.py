"""The settings an agent runs with, to start it with them again: as flags, and as a file beside its identity.

The join token is never among them: a device that has joined has a secret of its own.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from retire_cluster.agent.config import AgentConfig

FILE = "settings.json"
PREFIX = "RETIRE_CLUSTER_"
Settings = dict[str, str]  # by the flag's name, such as "max_memory_gb"; "1" for a flag without a value


def settings_of(config: AgentConfig, log_file: str | None = None) -> Settings:
    """Everything that was set, whether by flag or by variable."""
    found: dict[str, object] = {
        "join": ",".join(map(str, config.join)),
        "data_dir": str(config.data_dir),
        "role": config.role,
        "tags": ",".join(config.tags),
        "task_types": ",".join(config.task_types),
        "handlers": ",".join(map(_absolute, config.handlers)),
        "slots": config.slots,
        "max_memory_gb": None if config.max_memory_mb is None else config.max_memory_mb / 1024,
        "pause_on_battery": config.pause_on_battery,
        "pause_above": config.pause_above,
        "ca": None if config.ca_file is None else os.path.abspath(config.ca_file),
        "insecure_plain": int(config.insecure_plain),
        "allow_private_http": int(config.allow_private_http),
        "log_file": None if log_file is None else os.path.abspath(os.path.expanduser(log_file)),
    }
    return {name: str(value) for name, value in found.items() if value}


def _absolute(handlers: str) -> str:
    """A file is found from any directory; a module's name stays."""
    return os.path.abspath(os.path.expanduser(handlers)) if handlers.endswith(".py") else handlers


SWITCHES = frozenset({"insecure_plain", "allow_private_http"})


def flags(settings: Settings) -> Iterator[str]:
    """The settings as words of a command line."""
    for name, value in settings.items():
        yield f"--{name.replace('_', '-')}"
        if name not in SWITCHES:
            yield value


def variables(settings: Settings) -> dict[str, str]:
    """The settings as environment variables."""
    return {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}


def save(state_dir: Path, settings: Settings) -> None:
    """Remember the settings, unless they are there already. Raises OSError."""
    if load(state_dir) == settings:
        return
    draft = state_dir / f"{FILE}.tmp"
    draft.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    draft.replace(state_dir / FILE)


def load(state_dir: Path) -> Settings:
    """The settings remembered; empty where there are none that can be read."""
    try:
        found = json.loads((state_dir / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    remembered = {str(name): str(value) for name, value in found.items()}
    if "data_dir" in remembered:
        remembered["data_dir"] = str(state_dir.parent)  # where it is now: directories are moved
    return remembered
