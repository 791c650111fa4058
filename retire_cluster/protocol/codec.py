"""Frames: one WebSocket text frame is a JSON list of messages, each an object with a `type`."""

from collections.abc import Iterable, Iterator
from typing import Any

from retire_cluster.protocol import jsontext, schema
from retire_cluster.protocol.messages import FROM_AGENT, FROM_GATEWAY, Message

MAX_FRAME_BYTES = 8 * 1024 * 1024
MAX_FIRST_FRAME_BYTES = 64 * 1024  # before a connection has proved who it is
MAX_MESSAGES = 4096
# Frames are cut here, so that one more message of the largest kind still fits under the limit.
_SOFT_FRAME_CHARACTERS = 128 * 1024

_AGENT = {cls.type: cls for cls in FROM_AGENT}
_GATEWAY = {cls.type: cls for cls in FROM_GATEWAY}


class BadFrame(ValueError):
    """A frame, or one message in it, is unusable. Nothing of the frame counts."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.reason = reason
        self.field = field


def decode_from_agent(frame: str | bytes) -> list[Message]:
    """Messages of a frame an agent sent. Raises BadFrame."""
    return _decode(frame, _AGENT)


def decode_from_gateway(frame: str | bytes) -> list[Message]:
    """Messages of a frame a gateway sent. Raises BadFrame."""
    return _decode(frame, _GATEWAY)


def _decode(frame: str | bytes, known: dict[str, type[Message]]) -> list[Message]:
    if isinstance(frame, bytes):
        raise BadFrame("frames are text, not binary")
    if len(frame) > MAX_FRAME_BYTES:
        raise BadFrame(f"a frame may have {MAX_FRAME_BYTES} bytes")
    try:
        items = jsontext.loads(frame)
    except jsontext.UnstorableJSON as error:
        raise BadFrame(f"not JSON: {error}") from None
    if not isinstance(items, list) or len(items) > MAX_MESSAGES:
        raise BadFrame(f"a frame is a list of at most {MAX_MESSAGES} messages")
    return [_message(item, index, known) for index, item in enumerate(items)]


def _message(item: Any, index: int, known: dict[str, type[Message]]) -> Message:
    kind = item.get("type") if isinstance(item, dict) else None
    cls = known.get(kind) if isinstance(kind, str) else None
    if cls is None:
        word = repr(kind[:40]) if isinstance(kind, str) else "(not a text)"
        raise BadFrame(f"unknown message type {word}", f"[{index}].type")
    try:
        return schema.decode(cls, item)
    except schema.SchemaError as error:
        raise BadFrame(error.reason, f"[{index}].{error.field}"[:255]) from None


def encode(messages: Iterable[Message]) -> Iterator[str]:
    """Frames that carry the messages in order, each well under the frame limit."""
    parts: list[str] = []
    size = 0
    for message in messages:
        text = jsontext.dumps({"type": message.type, **schema.encode(message)})
        if parts and size + len(text) > _SOFT_FRAME_CHARACTERS:
            yield f"[{','.join(parts)}]"
            parts, size = [], 0
        parts.append(text)
        size += len(text)
    if parts:
        yield f"[{','.join(parts)}]"
