"""The server's end of a WebSocket: what may be read from a peer that has not proved who it is stays small.

And what many are told is encoded once: frames may be written as they are. And what is not urgent may be read later,
together with what other peers sent.
"""

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from retire_cluster.events.frames import WRITE
from retire_cluster.protocol.codec import MAX_FIRST_FRAME_BYTES, MAX_FRAME_BYTES

# Keys of scope["state"]: a function without arguments, and one that is given a `Later`.
TRUST = "retire_cluster.trust"
LATER = "retire_cluster.later"

# Takes a function that reads what has arrived, and returns True if it will call it soon; False: read it now.
Later = Callable[[Callable[[], None]], bool]

_TEXT = 0x81  # first byte of a text frame that is whole
_LONGEST_HELD = 1500  # bytes: a heartbeat without tasks has some 200


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """Reads messages of MAX_FIRST_FRAME_BYTES, and of MAX_FRAME_BYTES once the application trusts the peer.

    A larger one is refused as its header arrives, before anything of it is kept.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._later: Later | None = None
        self._held = b""
        self.conn.max_message_size = MAX_FIRST_FRAME_BYTES

    def handle_connect(self, event: Request) -> None:
        """Start the application, as always, and hand it the function that lifts the limit."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["state"].update({TRUST: self._trust, WRITE: self._write, LATER: self._read_later})

    def data_received(self, data: bytes) -> None:
        """Read, or hold a small text frame for a moment; whatever comes after it is read at once with it."""
        if self._held:
            data, self._held = self._held + data, b""
        elif self._later and data[0] == _TEXT and len(data) <= _LONGEST_HELD and self._later(self._read_held):
            self._held = data
            return
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """What was held came before the end."""
        self._read_held()
        super().connection_lost(exc)

    def _read_held(self) -> None:
        if self._held:
            data, self._held = self._held, b""
            super().data_received(data)

    def _read_later(self, later: Later) -> None:
        self._later = later

    def _write(self, frames: bytes) -> bool:
        """Send frames made elsewhere; False when the peer has not taken the last ones, or the connection ends."""
        if self.close_sent or self.disconnected or not self.writable.is_set() or self.transport.is_closing():
            return False
        self.transport.write(frames)
        return True

    def _trust(self) -> None:
        self.conn.max_message_size = MAX_FRAME_BYTES
