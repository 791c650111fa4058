"""How large a message the gateway's socket takes: little from a stranger, more once the peer is trusted."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from retire_cluster.gateway.websocket import TRUST, GuardedWebSocket
from retire_cluster.protocol.codec import MAX_FIRST_FRAME_BYTES, MAX_FRAME_BYTES
from tests.e2e.cluster import until

TRUSTED = "trusted"


async def _measure(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer each message with its length; trust the peer once it says the word."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        if event["text"] == TRUSTED:
            scope["state"][TRUST]()
        await send({"type": "websocket.send", "text": str(len(event["text"]))})


@pytest.fixture
def address() -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(_measure, ws=GuardedWebSocket, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        until(lambda: server.started, "the server to listen")
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/node"
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def test_a_stranger_s_message_may_be_small(address: str) -> None:
    with connect(address, compression=None) as peer:
        peer.send("x" * MAX_FIRST_FRAME_BYTES)
        assert peer.recv() == str(MAX_FIRST_FRAME_BYTES)


def test_a_stranger_s_larger_message_ends_the_connection(address: str) -> None:
    with connect(address, compression=None) as peer:
        peer.send("x" * (MAX_FIRST_FRAME_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            peer.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


def test_a_stranger_s_message_in_many_fragments_may_be_no_larger(address: str) -> None:
    with connect(address, compression=None) as peer, pytest.raises(ConnectionClosed):
        peer.send(["x" * 4096] * (MAX_FIRST_FRAME_BYTES // 4096 + 1))
        peer.recv()


def test_a_trusted_peer_may_send_what_a_frame_may_have(address: str) -> None:
    with connect(address, compression=None, max_size=None) as peer:
        peer.send(TRUSTED)
        assert peer.recv() == str(len(TRUSTED))
        peer.send("x" * MAX_FRAME_BYTES)
        assert peer.recv() == str(MAX_FRAME_BYTES)
        with pytest.raises(ConnectionClosed):
            peer.send("x" * (MAX_FRAME_BYTES + 1))
            peer.recv()
