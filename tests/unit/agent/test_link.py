"""A connection whose other end went away without a word takes what is sent to it, and is over."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol

from retire_cluster.agent.address import Address
from retire_cluster.agent.link import Connection


class Wire(asyncio.Transport):
    """A transport that answers the handshake; it says that it is closed only when it is told to."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self.sent: list[bytes] = []
        self._server = ServerProtocol()
        self._socket = socket.socket()

    def write(self, data: Any) -> None:
        self.sent.append(bytes(data))
        self._server.receive_data(bytes(data))
        for event in self._server.events_received():
            if isinstance(event, Request):
                self._server.send_response(self._server.accept(event))
                answer = b"".join(self._server.data_to_send())
                asyncio.get_running_loop().call_soon(self.connection.data_received, answer)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """What is written is gone at once."""

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Something unsent keeps it open."""

    def abort(self) -> None:
        self._socket.close()


@pytest.mark.parametrize(
    "use",
    [lambda link: link.send("[]"), lambda link: link.close(patience_s=0)],
    ids=["a frame", "a closing handshake"],
)
def test_between_the_other_ends_silence_and_the_sockets_end_everything_is_void(
    use: Callable[[Connection], Awaitable[None]],
) -> None:
    async def scenario() -> list[bytes]:
        connection = Connection(Address("127.0.0.1", 8080))
        wire = Wire(connection)
        connection.connection_made(wire)
        await connection.upgrade()
        connection.eof_received()  # no closing handshake: the process was killed, or the way is broken
        before = len(wire.sent)
        await use(connection)
        connection.abort()
        return wire.sent[before:]

    assert asyncio.run(scenario()) == []


def test_an_open_connection_sends() -> None:
    async def scenario() -> list[bytes]:
        connection = Connection(Address("127.0.0.1", 8080))
        wire = Wire(connection)
        connection.connection_made(wire)
        await connection.upgrade()
        before = len(wire.sent)
        await connection.send("[]")
        connection.abort()
        return wire.sent[before:]

    (frame,) = asyncio.run(scenario())
    assert len(frame) == 2 + 4 + 2  # head, mask, text
