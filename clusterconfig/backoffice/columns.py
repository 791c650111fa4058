"""Columns and read-only fields of admin pages. What they show may be hostile: all of it is escaped."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar, cast
from uuid import UUID

from django.contrib.admin.utils import quote
from django.db.models import Field, JSONField
from django.urls import reverse
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

F = TypeVar("F", bound=Callable[..., Any])
Colours = Mapping[str, str]
LONGEST = 10_000  # characters of a value on a page; a result may have megabytes
BRIEF = 120  # characters of one in a list
NOTHING = "-"


def column(
    description: str, *, label: Colours | None = None, ordering: str | None = None
) -> Callable[[F], F]:
    """unfold's `display`, with types. `label` makes a coloured word of the value, by the colour of each."""
    return cast("Callable[[F], F]", display(description=description, label=label, ordering=ordering))


def word(field: str, colours: Colours) -> Callable[[Any], str]:
    """A column with a field's word in its colour."""

    @column(field, label=colours, ordering=field)
    def show(row: Any) -> str:
        return str(getattr(row, field))

    show.__name__ = field
    return show


def brief(field: str) -> Callable[[Any], str]:
    """A column with the beginning of a JSON value or a long text, in one line."""

    @column(field.replace("_", " "))
    def show(row: Any) -> str:
        value = getattr(row, field)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        line = " ".join(_storable(text[: 2 * BRIEF]).split())
        return line[:BRIEF] + ("…" if len(text) > BRIEF else "")

    show.__name__ = f"brief_{field}"
    return show


def pretty(field: "Field[Any, Any]") -> Callable[[Any], str]:
    """A read-only field with a JSON value or a long text, laid out, as far as it is not too long."""

    @column(str(field.verbose_name))
    def show(row: Any) -> str:
        value = getattr(row, field.attname)
        return block(value if isinstance(field, JSONField) else parsed(value))

    show.__name__ = field.name
    return show


def parsed(text: str | None) -> Any:
    """What a JSON text says; the text itself where it is none."""
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return text


def block(value: Any) -> SafeString | str:
    """A value as a block of text of at most LONGEST characters."""
    if value is None or value == "":
        return NOTHING
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)
    left_out = len(text) - LONGEST
    tail = f"\n… and {left_out:,} more characters" if left_out > 0 else ""
    return format_html('<pre class="rc-block">{}{}</pre>', _storable(text[:LONGEST]), tail)


def link(page: str, key: str | int | UUID) -> SafeString | str:
    """A link to a row's page: `link("devices_device", "nuc")`."""
    if not key:
        return NOTHING
    address = reverse(f"admin:{page}_change", args=[quote(key)])
    return format_html('<a class="text-link" href="{}">{}</a>', address, key)


def moment(value: datetime | None) -> str:
    """A time as columns of fields show it."""
    return NOTHING if value is None else str(formats.localize(timezone.localtime(value)))


def listed(page: str, words: str, **conditions: str | int | UUID) -> SafeString:
    """A link to those rows of a list that its filters let through."""
    address = reverse(f"admin:{page}_changelist", query=conditions)
    return format_html('<a class="text-link" href="{}">{}</a>', address, words)


def _storable(text: str) -> str:
    """Without halves of surrogate pairs: escaped in JSON they are legal, in a page they are not."""
    return text.encode("utf-8", "replace").decode()
