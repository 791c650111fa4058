"""The form of each task type: what is filled in, with an example that works, and the payload it makes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retire_cluster.protocol import jsontext

JSON, TEXT, LONG, NUMBER, CHOICE = "json", "text", "long", "number", "choice"


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of a payload."""

    name: str
    label: str
    kind: str
    example: str = ""
    hint: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A task type for people: what it does, and its fields."""

    name: str
    does: str
    entries: tuple[Entry, ...]


WHOLE = "payload"
"""The name of the field that holds a payload as JSON: of types whose fields nobody here knows."""

_LOOP = "for i in 1 2 3; do echo $i; sleep 1; done"
KINDS = {
    kind.name: kind
    for kind in (
        Kind("echo", "Gives back what it was sent: the quickest way to see that a device works.", (
            Entry(WHOLE, "Payload", JSON, '{"message": "Hello World"}', "A JSON object", required=True),
        )),
        Kind("sleep", "Waits, and reports its progress.", (
            Entry("duration", "Seconds", NUMBER, "10", required=True),
        )),
        Kind("system_info", "Tells what the device is: processor, memory, storage, network.", ()),
        Kind("command", "Runs a shell command with the account of the agent.", (
            Entry("command", "Command", LONG, _LOOP, "For the device's shell", required=True),
            Entry("cwd", "Directory", TEXT, "", "Empty: one of its own, which is deleted afterwards"),
            Entry("env", "Environment", JSON, "", 'Such as {"NAME": "value"}'),
        )),
        Kind("python_eval", "Evaluates a Python expression.", (
            Entry("expression", "Expression", LONG, "sum(n * n for n in range(10))", required=True),
            Entry("variables", "Variables", JSON, "", 'Such as {"n": 10}'),
        )),
        Kind("http_request", "Fetches a URL from the device's network.", (
            Entry("url", "URL", TEXT, "https://example.com/", required=True),
            Entry("method", "Method", CHOICE, "GET", choices=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")),
            Entry("headers", "Headers", JSON, "", 'Such as {"Accept": "text/plain"}'),
            Entry("data", "Body", LONG, "", "Sent as it is"),
        )),
    )
}  # fmt: skip


class Unreadable(Exception):
    """A field does not hold what it should."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def kind_of(task_type: str) -> Kind:
    """The form of the type; of a custom one, a payload as JSON."""
    whole = Entry(
        WHOLE, "Payload", JSON, "{}", "A JSON object, as the handler on the device wants it", required=True
    )
    return KINDS.get(task_type) or Kind(
        task_type, "A custom type: devices with its handler run it.", (whole,)
    )


def payload(kind: Kind, given: Mapping[str, str]) -> dict[str, Any]:
    """What the fields make; empty ones are left out. Raises Unreadable."""
    made: dict[str, Any] = {}
    for entry in kind.entries:
        text = given.get(f"payload.{entry.name}", "")
        if text.strip():
            made[entry.name] = _value(entry, text)
    if WHOLE not in {entry.name for entry in kind.entries}:
        return made
    whole = made.get(WHOLE, {})
    if not isinstance(whole, dict):
        raise Unreadable(f"payload.{WHOLE}", "must be a JSON object: {...}")
    return whole


def _value(entry: Entry, text: str) -> Any:
    if entry.kind not in (JSON, NUMBER):
        return text.replace("\r\n", "\n")  # as browsers send the lines of a field
    try:
        value = jsontext.loads(text)
        jsontext.check_value(value)
    except ValueError as error:
        what = "a number" if entry.kind == NUMBER else f"JSON ({error})"
        raise Unreadable(f"payload.{entry.name}", f"must be {what}") from None
    return value
