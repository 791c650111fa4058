"""Cuts a WebSocket connection's bytes where its frames end (RFC 6455, 5.2). Pure."""

from collections.abc import Iterator

TEXT = 0x1
_FIN, _OPCODE, _MASKED, _LENGTH = 0x80, 0x0F, 0x80, 0x7F
_HEAD_END = b"\r\n\r\n"


class Splitter:
    """One direction of a connection: the HTTP head of the handshake first, then frames."""

    def __init__(self) -> None:
        self._buffer = b""
        self._in_head = True

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Whole pieces that are complete now, and whether each is a text frame that stands alone."""
        self._buffer += data
        while piece := self._next():
            yield piece

    def _next(self) -> tuple[bytes, bool] | None:
        if self._in_head:
            end = self._buffer.find(_HEAD_END)
            if end < 0:
                return None
            self._in_head = False
            return self._take(end + len(_HEAD_END)), False
        size = frame_size(self._buffer)
        if size is None or len(self._buffer) < size:
            return None
        first = self._buffer[0]
        return self._take(size), bool(first & _FIN) and first & _OPCODE == TEXT

    def _take(self, size: int) -> bytes:
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece


def frame_size(data: bytes) -> int | None:
    """Bytes of the frame that begins here, header and mask included; None while that cannot be told yet."""
    if len(data) < 2:
        return None
    length, extra = data[1] & _LENGTH, 0
    if length >= 126:
        extra = 2 if length == 126 else 8
        if len(data) < 2 + extra:
            return None
        length = int.from_bytes(data[2 : 2 + extra], "big")
    return 2 + extra + (4 if data[1] & _MASKED else 0) + length
