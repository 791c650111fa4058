"""What the dashboard's templates need: times, chips, links that keep the filters."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import template
from django.http import QueryDict
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from retire_cluster.dashboard import pictures, words
from retire_cluster.protocol import jsontext

register = template.Library()

MAX_TEXT = 20_000  # characters of JSON that are shown
MAX_SHOWN = 200  # members of one object or list that are drawn


@register.filter
def short_id(task_id: object) -> str:
    """The end of a task's id."""
    return words.short_id(task_id)


@register.filter
def span(seconds: float | None) -> str:
    """A time in words."""
    return words.span(seconds)


@register.filter
def ago(moment: datetime | None, now: datetime) -> SafeString | str:
    """How long ago it is now; the page's module has it grow older."""
    return "" if moment is None else _time(moment, words.ago(moment, now), "data-ago")


@register.filter
def since(moment: datetime | None, now: datetime) -> SafeString | str:
    """Since when something goes on; the page's module says for how long instead, and has that grow."""
    return "" if moment is None else _time(moment, f"since {words.moment(moment, now)}", "data-since")


@register.filter
def due(moment: datetime | None, now: datetime) -> SafeString | str:
    """When something comes; the page's module says in how long instead, and counts down."""
    return "" if moment is None else _time(moment, f"at {words.moment(moment, now)}", "data-due")


@register.filter
def clock(moment: datetime | None) -> SafeString | str:
    """The time of day, UTC; the page's module makes it the reader's own."""
    return "" if moment is None else _time(moment, f"{moment:%H:%M:%S}", "data-clock")


def _time(moment: datetime, text: str, mark: str) -> SafeString:
    """Words for a moment, with the moment itself for machines and for whoever points at it."""
    iso = moment.isoformat(timespec="seconds")
    shown = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time datetime="{}" title="{}" {}>{}</time>', iso, shown, mark, text)


@register.filter
def chip(status: str) -> SafeString:
    """A state as a word in its colour."""
    kind = status if status.isalpha() else "idle"
    return format_html('<span class="chip {}">{}</span>', kind, status)


@register.filter
def device(device_id: str) -> SafeString | str:
    """A device's name with a link to its page."""
    return device_words(device_id, device_id)


@register.simple_tag
def device_words(device_id: str, text: str) -> SafeString | str:
    """Words that lead to a device's page; where the id could not be one of a device they lead nowhere."""
    try:
        return format_html('<a href="{}">{}</a>', reverse("dashboard:device", args=[device_id]), text)
    except NoReverseMatch:
        return text


@register.filter
def gigabytes(megabytes: float | None) -> str:
    """From MB; `unknown` for None."""
    return "unknown" if megabytes is None else f"{megabytes / 1024:.1f} GB"


@register.filter
def known(value: object) -> object:
    """The value, or the word for one nobody told."""
    if value is None or value == "":
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value


@register.filter
def percent(value: float | None) -> str:
    """`42 %`; `unknown` for None."""
    return "unknown" if value is None else f"{value:.0f} %"


@register.simple_tag(takes_context=True)
def query(context: dict[str, Any], **changes: Any) -> str:
    """The page's own query string with some parameters set, or left out where None."""
    params: QueryDict = context["request"].GET.copy()
    for name, value in changes.items():
        if value in (None, ""):
            params.pop(name, None)
        else:
            params[name] = str(value)
    return f"?{params.urlencode()}" if params else "?"


@register.simple_tag
def pretty(text: str) -> str:
    """JSON text, indented; its beginning, as it is, where it is long or none."""
    if len(text) > MAX_TEXT:
        return f"{text[:MAX_TEXT]}… ({len(text)} characters)"
    try:
        indented = json.dumps(jsontext.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
    return indented if len(indented) <= 2 * MAX_TEXT else text  # deep lists grow with each level


@register.simple_tag
def beats_drawn(beats: Sequence[str]) -> SafeString:
    """The heartbeats' paths."""
    return format_html_join("", '<path class="{}" d="{}"/>', pictures.beat_paths(beats))


@register.simple_tag
def beats_summary(beats: Sequence[str]) -> str:
    """What they say to somebody who does not see them."""
    known = len(beats) - beats.count("unknown")
    return f"{beats.count('ok')} of the last {known} came" if known else "none is known"


@register.inclusion_tag("dashboard/parts/tree.html")
def tree(value: Any, name: str = "", depth: int = 0) -> dict[str, Any]:
    """A JSON value as nested lists; deep ones begin closed."""
    members: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        members = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        members = [(str(index), item) for index, item in enumerate(value)]
    return {
        "name": name,
        "value": value,
        "kind": _kind(value),
        "text": "" if members else json.dumps(value, ensure_ascii=False),
        "members": members[:MAX_SHOWN],
        "count": len(members),
        "more": max(0, len(members) - MAX_SHOWN),
        "open": depth < 2,
        "depth": depth + 1,
        "too_deep": depth > 12,
    }


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "object"
    return "list" if isinstance(value, list) else "plain"
