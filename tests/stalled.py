"""A WebSocket client that reads nothing before it is asked to: libraries read ahead."""

import json
import socket
from typing import Any

PATIENCE_S = 30.0
_CLOSE = 8  # opcode
_BUFFER_BYTES = 4096
_SEGMENT_BYTES = (
    1460  # as on a network; those of loopback are 64 KiB, and let the server's kernel take megabytes
)


def upgrade_request(*headers: str) -> bytes:
    """A handshake with just these headers beside the necessary ones."""
    needed = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    return "\r\n".join(["GET /ws HTTP/1.1", *headers, *needed, key, "", ""]).encode()


class Closed(Exception):
    """The server closed the connection, with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Stalled:
    """Follows `/ws` of this port of this machine, one frame at a time."""

    def __init__(self, port: int) -> None:
        self.taken = 0  # bytes of frames
        self._line = socket.socket()
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._line.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
        self._line.settimeout(PATIENCE_S)
        self._line.connect(("127.0.0.1", port))
        self._line.sendall(upgrade_request(f"Host: 127.0.0.1:{port}"))
        self._stream = self._line.makefile("rb")
        while self._stream.readline() != b"\r\n":
            pass

    @property
    def port(self) -> int:
        return int(self._line.getsockname()[1])

    def next(self) -> dict[str, Any]:
        """Raises Closed."""
        return dict(json.loads(self._frame()))

    def until(self, kind: str) -> dict[str, Any]:
        while (frame := self.next())["type"] != kind:
            pass
        return frame

    def _frame(self) -> bytes:
        head, short = self._stream.read(2)
        size = int.from_bytes(self._stream.read({126: 2, 127: 8}[short])) if short > 125 else short
        self.taken += size
        content = self._stream.read(size)
        if head & 0x0F == _CLOSE:
            raise Closed(int.from_bytes(content[:2]))
        return content

    def close(self) -> None:
        self._stream.close()
        self._line.close()
