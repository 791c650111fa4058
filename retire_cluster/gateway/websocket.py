"""The server's end of a WebSocket: what may be read from a peer that has not proved who it is stays small."""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

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
            self.scope["state"][TRUST] = self._trust

    def _trust(self) -> None:
        self.conn.max_message_size = MAX_FRAME_BYTES
