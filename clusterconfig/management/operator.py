"""What the commands for keys and tokens share: durations, errors on one line, tables."""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from django.core.management.base import CommandError

from retire_cluster.api.errors import ApiError

T = TypeVar("T")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}


def seconds(text: str) -> int:
    """A duration such as 45s, 90m, 12h, 30d or 2w. Raises CommandError."""
    form = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if form is None:
        raise CommandError(f"--expires-in: must be like 45s, 90m, 12h, 30d or 2w, is {text!r}")
    return int(form[1]) * _UNITS[form[2]]


def words(text: str) -> list[str]:
    """The entries of a list by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def parsed(parse: Callable[..., T], body: dict[str, Any], *, now: datetime) -> T:
    """The body read as the API reads it, without options that were not given. Raises CommandError."""
    given = {name: value for name, value in body.items() if value not in (None, "", [])}
    try:
        return parse(given, now=now)
    except ApiError as error:
        raise CommandError(error.failure.message) from None


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [list(headings), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
