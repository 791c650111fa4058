"""Events as clients get them: encoded once, whoever listens. Pure."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

# Key of a connection's scope["state"], where its server has it: writes whole frames; False when it takes none now.
WRITE = "retire_cluster.write"


@dataclass(frozen=True, slots=True)
class Event:
    """One event, ready to be sent. `task_ids`: the tasks it is about."""

    seq: int
    kind: str
    task_ids: frozenset[str]
    text: str

    @property
    def topic(self) -> str:
        return self.kind.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the stream: the last event a client has seen. A restored database is another stream."""

    stream: str
    seq: int

    def __str__(self) -> str:
        return f"{self.stream}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises ValueError."""
        stream, dash, number = text.rpartition("-")
        if not (dash and stream.isalnum() and stream.isascii() and number.isdigit() and len(number) <= 18):
            raise ValueError("is not a cursor; send the `cursor` of the last event you have seen")
        return cls(stream, int(number))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asked for; empty means everything."""

    topics: frozenset[str] = frozenset()
    task_id: str = ""

    def includes(self, event: Event) -> bool:
        """Whether the client is to get the event."""
        if self.topics and event.topic not in self.topics:
            return False
        return not self.task_id or self.task_id in event.task_ids


def frame(kind: str, cursor: Cursor, at: datetime, data: Mapping[str, Any] | str) -> str:
    """One message to a client; `data` may be JSON text already."""
    moment = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return f'{{"type":"{kind}","seq":{cursor.seq},"cursor":"{cursor}","timestamp":"{moment}","data":{text}}}'


def websocket_text(text: str) -> bytes:
    """The text as a server's WebSocket frame (RFC 6455, section 5.2): whole, not masked."""
    content = text.encode()
    size = len(content)
    if size < 126:
        return bytes((0x81, size)) + content
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2) + content
    return b"\x81\x7f" + size.to_bytes(8) + content


def unpack(stream: str, seq_from: int, events: str, at: datetime) -> Iterator[Event]:
    """The events of one stored row, encoded."""
    for number, (kind, data) in enumerate(json.loads(events), seq_from):
        text = frame(kind, Cursor(stream, number), at, data)
        yield Event(number, kind, _task_ids(data), text)


def _task_ids(data: Mapping[str, Any]) -> frozenset[str]:
    single: Iterable[str] = (data["task_id"],) if "task_id" in data else ()
    return frozenset([*single, *data.get("task_ids", ())])
