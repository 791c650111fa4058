"""How things are shown: tables with colours on a terminal, tab-separated lines in a pipe, JSON where asked for."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

NOTHING = "-"
# What devices say of themselves reaches the terminal: nothing of it may steer it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
# Of a task's output colours pass, and what moves within text.
_UNSAFE = re.compile(r"\x1b\[[0-9;]*m|[\t\n\r]|(\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f])")
_COLOURS = {
    "online": "green", "success": "green", "healthy": "green", "yes": "green",
    "running": "cyan", "assigned": "cyan", "queued": "blue", "pending": "blue",
    "failed": "red", "timeout": "red", "offline": "red", "unhealthy": "red", "no": "red",
    "cancelled": "yellow", "degraded": "yellow",
}  # fmt: skip

Cell = object  # whatever `cell` knows


def is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def console() -> "Console":
    """Rich's, on standard output; it honours NO_COLOR itself."""
    from rich.console import Console  # costs more to import than all the rest, and pipes need none of it

    return Console(highlight=False)


def cell(value: Cell, *, human: bool) -> str:
    """One value in words, on one line."""
    match value:
        case None | "" | () | []:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.1f}" if human else str(value)
        case datetime():
            return ago(value) if human else value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Mapping():
            return ", ".join(f"{name} {cell(item, human=human)}" for name, item in value.items())
        case list() | tuple() | set() | frozenset():
            return ",".join(cell(item, human=human) for item in value)
        case _:
            return _CONTROL.sub(" ", str(value))


def ago(moment: datetime) -> str:
    """How long ago, or from now, roughly."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if abs(seconds) >= size:
            words = f"{abs(seconds) / size:.0f} {unit}"
            break
    else:
        words = f"{abs(seconds):.0f} s"
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, empty: str = "") -> None:
    """Rows under their columns. In a pipe: the same columns in every version, separated by tabs."""
    found = list(rows)
    if is_terminal():
        if not found and empty:
            print(empty)
            return
        console().print(drawn(columns, found))
        return
    print("\t".join(name.upper() for name in columns))
    for row in found:
        print("\t".join(cell(value, human=False) for value in row))


def drawn(columns: Sequence[str], rows: Iterable[Sequence[Cell]], title: str = "") -> "RenderableType":
    """Rich's table of the rows."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold", title=title or None, title_justify="left")
    for name in columns:
        made.add_column(name.upper(), overflow="fold")
    for row in rows:
        words = [cell(value, human=True) for value in row]
        made.add_row(*(Text(word, style=_COLOURS.get(word, "")) for word in words))
    return made


def facts(pairs: Mapping[str, Cell]) -> None:
    """One thing with its properties, a line each."""
    if is_terminal():
        console().print(drawn_facts(pairs))
        return
    for name, value in pairs.items():
        print(f"{name}\t{cell(value, human=False)}")


def drawn_facts(pairs: Mapping[str, Cell]) -> "RenderableType":
    """Rich's grid of them."""
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in pairs.items():
        word = cell(value, human=True)
        made.add_row(name, Text(word, style=_COLOURS.get(word, "")))
    return made


def as_json(value: Any) -> None:
    """The server's own words: objects as it sent them."""
    print(json.dumps(value, indent=2 if is_terminal() else None, ensure_ascii=False))


def note(words: str) -> None:
    """A line for the person, beside the output."""
    print(_CONTROL.sub(" ", words), file=sys.stderr, flush=True)


def passed_on(text: str, *, to_terminal: bool) -> str:
    """What a task printed: as it is in a pipe; on a terminal without what could move or rename the window."""
    return _UNSAFE.sub(lambda found: "" if found.group(1) else found.group(0), text) if to_terminal else text
