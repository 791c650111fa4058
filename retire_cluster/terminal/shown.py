"""How things are shown: tables with colours on a terminal, tab-separated lines in a pipe, JSON where asked for."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

NOTHING = "-"
# What devices say of themselves reaches the terminal: nothing of it may steer it.
# Of Unicode: what ends lines, and what turns the direction of writing, so that a line reads as another.
_TURNS = "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(rf"[\x00-\x1f\x7f-\x9f{_TURNS}]+")
_NOT_IN_JSON = re.compile(rf"[\x7f-\x9f{_TURNS}]")  # which escapes the other ones itself
# Of a task's output colours pass, and what moves within text.
_UNSAFE = re.compile(r"\x1b\[[0-9;]{0,64}m|[\t\n\r]|(\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f])")
COLOURS_END = "\x1b[0m"  # whoever asks for hidden text must not leave the person's prompt hidden
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
            return ", ".join(f"{_line(str(name))} {cell(item, human=human)}" for name, item in value.items())
        case list() | tuple() | set() | frozenset():
            return ",".join(cell(item, human=human) for item in value)
        case _:
            return _line(str(value))


def _line(words: str) -> str:
    return _CONTROL.sub(" ", words)


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
    print(json_text(value, indent=2 if is_terminal() else None))


def as_json_list(values: Iterable[Any]) -> None:
    """A list whose items are printed as they come; it is whole JSON, whatever ends it."""
    indent = 2 if is_terminal() else None
    print("[", end="")
    comma = ""
    try:
        for value in values:
            print(f"{comma}\n{json_text(value, indent=indent)}", end="", flush=True)
            comma = ","
    finally:
        print("\n]", flush=True)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON that steers no terminal, and that standard output can write."""
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    text = json.dumps(value, indent=indent, ensure_ascii=not is_unicode)
    return _NOT_IN_JSON.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def say(words: object) -> None:
    """A line of the answer."""
    print(_line(str(words)))


def note(words: str) -> None:
    """A line for the person, beside the output; who has closed that does not want it."""
    with suppress(BrokenPipeError):
        print(_line(words), file=sys.stderr, flush=True)


def passed_on(text: str, *, to_terminal: bool) -> str:
    """What a task printed: as it is in a pipe; on a terminal without what could move or rename the window."""
    return _UNSAFE.sub(lambda found: "" if found.group(1) else found.group(0), text) if to_terminal else text
