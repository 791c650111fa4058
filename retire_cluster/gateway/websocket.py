"""The server's end of a WebSocket: what may be read from a peer that has not proved who it is stays small.

And what many are told is encoded once: frames may be written as they are.
"""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from retire_cluster.events.frames import WRITE
from retire_cluster.protocol.codec import MAX_FIRST_FRAME_BYTES, MAX_FRAME_BYTES

TRUST = "retire_cluster.trust"  # key of scope["state"]: a function without arguments


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """Reads messages of MAX_FIRST_FRAME_BYTES, and of MAX_FRAME_BYTES once the application trusts the peer.

    A larger one is refused as its header arrives, before anything of it is kept.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn.max_message_size = MAX_FIRST_FRAME_BYTES

    def handle_connect(self, event: Request) -> None:
        """Start the application, as always, and hand it the function that lifts the limit."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.scope["state"].update({TRUST: self._trust, WRITE: self._write})

    def _write(self, frames: bytes) -> bool:
        """Send frames made elsewhere; False when the peer has not taken the last ones, or the connection ends."""
        if self.close_sent or self.disconnected or not self.writable.is_set() or self.transport.is_closing():
            return False
        self.transport.write(frames)
        return True

    def _trust(self) -> None:
        self.conn.max_message_size = MAX_FRAME_BYTES
