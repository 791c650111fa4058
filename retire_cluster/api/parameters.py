"""Query parameters, read in one way everywhere.

A parameter that takes one value may stand once: of two, a proxy, this server and the client may each mean another.
Those that take several say so where they are read (`several` here, and `retire_cluster.api.filters`): written by
repeating the parameter, with commas, or both. Unknown ones are ignored.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from rest_framework.request import Request

from retire_cluster.api.errors import FieldError, invalid

T = TypeVar("T")
ONCE = "may be given once"
MAX_VALUES = 100  # of one parameter
_REPLACED = "\ufffd"  # what Django makes of bytes that are not UTF-8
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{0,9})?")
_FLAGS = {"": False, "false": False, "0": False, "true": True, "1": True}


def problem(texts: list[str], *, once: bool) -> str | None:
    """What is wrong with a parameter as it was sent, whatever it means; None when nothing is."""
    if once and len(texts) > 1:
        return ONCE
    if any("\x00" in text for text in texts):  # Postgres cannot even compare with it
        return "must not contain the NUL character"
    if any(_REPLACED in text for text in texts):
        return "must be UTF-8"
    return None


def single(request: Request, name: str) -> str:
    """The value of a parameter that may stand once; empty when absent. Raises the API's 400."""
    texts: list[str] = request.query_params.getlist(name)
    if (reason := problem(texts, once=True)) is not None:
        raise invalid(FieldError(name, reason))
    return texts[0] if texts else ""


def several(request: Request, name: str, check: Callable[[str], T]) -> list[T]:
    """The values of a parameter that takes some; `check` raises ValueError saying what one must be."""
    texts: list[str] = request.query_params.getlist(name)
    if (reason := problem(texts, once=False)) is not None:
        raise invalid(FieldError(name, reason))
    try:
        return [check(part) for part in values(texts)]
    except ValueError as error:
        raise invalid(FieldError(name, str(error))) from None


def values(texts: list[str], *, once: bool = False) -> list[str]:
    """What a parameter says, in parts. Raises ValueError for too many."""
    parts = texts if once else [part for text in texts for part in text.split(",")]
    found = [part.strip() for part in parts if part.strip()]
    if len(found) > MAX_VALUES:
        raise ValueError(f"may have {MAX_VALUES} values")
    return found


def positive(request: Request, name: str, default: int) -> int:
    """A whole number from 1; absent or empty means the default."""
    return whole(request, name, default, low=1)


def whole(request: Request, name: str, default: int, *, low: int, high: int | None = None) -> int:
    """A whole number within [low, high]; absent or empty means the default."""
    raw = single(request, name)
    if not raw:
        return default
    number = int(raw) if raw.isascii() and raw.isdigit() and len(raw) <= 18 else -1
    if number < low or (high is not None and number > high):
        upper = "" if high is None else f" to {high}"
        raise invalid(FieldError(name, f"must be a whole number from {low}{upper}"))
    return number


def seconds(request: Request, name: str, most: float) -> float:
    """A number of seconds from 0 to `most`; 0 when absent or empty."""
    raw = single(request, name) or "0"
    value = float(raw) if _SECONDS.fullmatch(raw) else -1.0
    if not 0 <= value <= most:
        raise invalid(FieldError(name, f"must be a number of seconds from 0 to {most:g}"))
    return value


def flag(request: Request, name: str) -> bool:
    """true or false, also as 1 or 0; false when absent or empty."""
    value = _FLAGS.get(single(request, name).lower())
    if value is None:
        raise invalid(FieldError(name, "must be true or false"))
    return value
