"""Typed readers of RETIRE_CLUSTER_* environment variables. A bad value is one clear line, never a guess."""

import os
from collections.abc import Callable
from pathlib import Path

PREFIX = "RETIRE_CLUSTER_"
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


class EnvError(ValueError):
    """A variable holds something unusable; the message names it and says what is wanted."""


def text(name: str, default: str) -> str:
    """The variable's text, or the default when it is unset or empty."""
    return os.environ.get(PREFIX + name, "").strip() or default


def integer(name: str, default: int, low: int, high: int) -> int:
    """A whole number within [low, high]."""
    raw = text(name, str(default))
    try:
        value = int(raw)
    except ValueError:
        raise EnvError(f"{PREFIX}{name}: must be a whole number, is {raw!r}") from None
    if not low <= value <= high:
        raise EnvError(f"{PREFIX}{name}: must be {low} to {high}, is {value}")
    return value


def flag(name: str, default: bool) -> bool:
    """1/true/yes/on or 0/false/no/off, in any case."""
    raw = text(name, str(default)).lower()
    if raw in _TRUE:
        return True
    if raw in _FALSE:
        return False
    raise EnvError(f"{PREFIX}{name}: must be true or false, is {raw!r}")


def optional_flag(name: str) -> bool | None:
    """The same, or None when it is unset."""
    return flag(name, default=False) if text(name, "") else None


def choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    """One of some words, in any case."""
    value = text(name, default).lower()
    if value not in choices:
        raise EnvError(f"{PREFIX}{name}: must be {' or '.join(filter(None, choices))}, is {value!r}")
    return value


def checked(name: str, check: Callable[[], object]) -> None:
    """Raise EnvError naming the variable where the check of its value raises ValueError."""
    try:
        check()
    except ValueError as error:
        raise EnvError(f"{PREFIX}{name}: {error}") from None


def items(name: str) -> list[str]:
    """A comma-separated list without empty entries."""
    return [item.strip() for item in text(name, "").split(",") if item.strip()]


def path(name: str, default: Path) -> Path:
    """A file system path with ~ expanded."""
    return Path(text(name, str(default))).expanduser()
