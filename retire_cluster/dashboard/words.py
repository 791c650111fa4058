"""States, times and events in words for people. Pure."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

SHORT_ID = 8  # characters of a task's id that tell tasks apart: the last ones, the first are its time


@dataclass(frozen=True, slots=True)
class Tale:
    """An event in a sentence; `task_id` or `device_id` is what it is about, empty when it is about neither."""

    at: datetime
    kind: str
    text: str
    task_id: str = ""
    device_id: str = ""


def short_id(task_id: object) -> str:
    """The end of a task's id."""
    return str(task_id)[-SHORT_ID:]


def span(seconds: float | None) -> str:
    """`3.2 s`, `4 min`, `2 h 5 min`, `3 days`; empty for None."""
    if seconds is None:
        return ""
    if seconds < 0.0095:
        return "under 0.01 s"
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min"
    if seconds < 86_400:
        hours, minutes = divmod(int(seconds // 60), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days = int(seconds // 86_400)
    return "1 day" if days == 1 else f"{days} days"


def ago(moment: datetime, now: datetime) -> str:
    """`just now`, `4 min ago`, `in 20 s`."""
    seconds = (now - moment) / timedelta(seconds=1)
    if seconds < -1:
        return f"in {span(-seconds)}"
    return "just now" if seconds < 5 else f"{span(seconds)} ago"


def moment(at: datetime, now: datetime) -> str:
    """`13:05:10 UTC`; with its day where that is not today. Neither becomes untrue while it stands there."""
    shown = f"{at:%H:%M:%S} UTC"
    return shown if at.date() == now.date() else f"{at:%Y-%m-%d} {shown}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 device`, `3 devices`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {plural or noun + 's'}"


def listed(items: Iterable[str], most: int = 20) -> str:
    """`a, b, c and 7 more`; each at most 60 characters long."""
    known = [item if len(item) <= 60 else f"{item[:59]}…" for item in items]
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more


def tale(text: str) -> Tale:
    """An encoded event in words. What devices said is their word: it is escaped where it is shown."""
    frame: dict[str, Any] = json.loads(text)
    data: Mapping[str, Any] = frame["data"]
    kind = str(frame["type"])
    say = _SENTENCES.get(kind)
    sentence = say(data) if say else kind
    device_id = str(data.get("device_id") or "")
    task_id = str(data.get("task_id") or "")
    if kind == "task.submitted" and data["count"] == 1:
        task_id = str(data["task_ids"][0])
    return Tale(datetime.fromisoformat(frame["timestamp"]), kind, sentence, task_id, device_id)


def _submitted(data: Mapping[str, Any]) -> str:
    types = ", ".join(data["task_types"])
    if data["count"] == 1:
        return f"task {short_id(data['task_ids'][0])} submitted: {types}"
    return f"{data['count']} tasks submitted: {types}"


def _task(words: str) -> Callable[[Mapping[str, Any]], str]:
    def say(data: Mapping[str, Any]) -> str:
        return f"task {short_id(data['task_id'])} " + words.format(
            device=data.get("device_id") or "no device",
            status=data.get("status"),
            progress="" if data.get("progress") is None else f" {data['progress']:.0f} %",
        )

    return say


def _changed(data: Mapping[str, Any]) -> str:
    name = data["device_id"]
    if data.get("refused"):
        return f"{name} was refused: {data['refused']}"
    if data.get("draining"):
        return f"{name} is drained: {data.get('cordon_reason') or 'no reason given'}"
    if data.get("cordoned"):
        return f"{name} was cordoned: {data.get('cordon_reason') or 'no reason given'}"
    if data.get("cordoned") is False:
        return f"{name} is back in service"
    if data.get("paused_reason"):
        return f"{name} is paused: {data['paused_reason']}"
    if "paused_reason" in data:
        return f"{name} takes tasks again"
    if data.get("verified"):
        return f"{name} has stored its own secret"
    if data.get("draining") is False:
        return f"{name} is no longer drained, and stays cordoned"
    if "cordon_reason" in data:
        return f"{name} stays out of service: {data['cordon_reason'] or 'no reason given'}"
    # Of a drain's deadline the event tells only that there is another.
    return f"{name} is drained until another time" if data.keys() == {"device_id"} else f"{name} changed"


_SENTENCES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "task.submitted": _submitted,
    "task.pending": _task("failed on {device} and waits for its next try"),
    "task.queued": _task("is queued again"),
    "task.assigned": _task("goes to {device}"),
    "task.running": _task("runs on {device}"),
    "task.cancelling": _task("is being cancelled on {device}"),
    "task.progress": _task("is at{progress} on {device}"),
    "task.output": lambda data: f"task {short_id(data['task_id'])} printed something",
    "task.finished": _task("{status} on {device}"),
    "device.online": lambda data: f"{data['device_id']} {'joined' if data.get('joined') else 'is online'}",
    "device.offline": lambda data: (
        f"{data['device_id']} went offline: {data.get('reason') or 'no reason known'}"
    ),
    "device.changed": _changed,
    "device.removed": lambda data: f"{data['device_id']} was removed",
    "cluster.gateway_started": lambda data: f"a gateway serves on port {data['port']}",
    "cluster.gateway_stopped": lambda data: f"the gateway on port {data['port']} stopped",
    "config.changed": lambda data: f"settings of {data['section']} changed",
}
