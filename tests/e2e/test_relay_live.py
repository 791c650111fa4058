"""`/ws` through a relay: messages, closes and back-pressure cross it both ways."""

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.server import ServerConnection

from tests.e2e.cluster import until
from tests.e2e.relaying import Relay, dial, relay, server_tls, websocket_server

MIB = 1024 * 1024
FLOOD = 96


class Server:
    """What the far end of the WebSockets saw."""

    def __init__(self) -> None:
        self.closed: list[tuple[int | None, str | None]] = []
        self.sent_of_flood = 0  # MiB it could get rid of

    def converse(self, wire: ServerConnection) -> None:
        """Say how one was asked; echo; do what the words mean."""
        assert wire.request is not None
        headers = [[name.lower(), value] for name, value in wire.request.headers.raw_items()]
        wire.send(json.dumps({"path": wire.request.path, "headers": headers}))
        with contextlib.suppress(ConnectionClosed):
            for message in wire:
                self._obey(wire, message)
        self.closed.append((wire.close_code, wire.close_reason))

    def _obey(self, wire: ServerConnection, message: Any) -> None:
        if message == "close":
            wire.close(4321, "as you wish")
        elif message == "die":
            wire.socket.shutdown(socket.SHUT_RDWR)
        elif message == "flood":
            for number in range(1, FLOOD + 1):
                wire.send(b"x" * MIB)
                self.sent_of_flood = number
        else:
            wire.send(message)


@pytest.fixture(scope="module")
def server() -> Server:
    return Server()


@pytest.fixture(scope="module")
def live(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    place = tmp_path_factory.mktemp("live")
    tls, shown = server_tls(place)
    pins = {"RETIRE_CLUSTER_CLUSTER_PIN": f"{'0' * 64},{shown}"}  # one of them is enough
    with (
        websocket_server(server.converse, tls, subprotocols=["first", "second"]) as port,
        relay(place / "relay", port, **pins) as found,
    ):
        yield found


def test_a_websocket_is_relayed_both_ways_with_query_key_origin_and_subprotocol(live: Relay) -> None:
    own = {"X-API-Key": "rck_k", "X-Forwarded-For": "10.0.0.1", "Cookie": "a=b"}
    origin = f"http://127.0.0.1:{live.port}"
    with dial(live, "/ws/tasks?since=5&tag=a%20b", origin=origin, additional_headers=own) as wire:
        asked = json.loads(wire.recv())
        headers = dict(asked["headers"])
        assert len(headers) == len(asked["headers"]), "no header twice"
        assert asked["path"] == "/ws/tasks?since=5&tag=a%20b"
        assert headers["host"] == f"127.0.0.1:{live.port}"
        assert headers["origin"] == f"https://127.0.0.1:{live.port}", "as the gateway sees this page's site"
        assert (headers["x-api-key"], headers["cookie"]) == ("rck_k", "a=b")
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert "sec-websocket-extensions" not in headers
        assert wire.subprotocol == "second"
        for message in ("hello", b"\x00\xff", "ä" * 1000, ""):
            wire.send(message)
            assert wire.recv() == message


def test_the_gateway_s_close_code_reaches_the_client(live: Relay) -> None:
    with dial(live) as wire:
        wire.recv()
        wire.send("close")
        with pytest.raises(ConnectionClosed):
            wire.recv()
        assert (wire.close_code, wire.close_reason) == (4321, "as you wish")


def test_the_client_s_close_code_reaches_the_gateway(live: Relay, server: Server) -> None:
    with dial(live) as wire:
        wire.recv()
        wire.close(4007, "had enough")
    until(lambda: (4007, "had enough") in server.closed, "the gateway to hear of it")
    assert (4007, "had enough") in server.closed


def test_a_gateway_that_drops_a_websocket_is_told_apart_from_one_that_closes_it(live: Relay) -> None:
    with dial(live) as wire:
        wire.recv()
        wire.send("die")
        with pytest.raises(ConnectionClosed):
            wire.recv()
        assert wire.close_code == 1014  # bad gateway


def test_a_slow_reader_slows_the_gateway_and_fills_no_memory(live: Relay, server: Server) -> None:
    with dial(live, max_queue=1, max_size=None) as slow, dial(live) as other:
        slow.recv()
        other.recv()
        slow.send("flood")
        slow.recv()
        until(lambda: is_at_a_stand(server, other), "the flood to stand still")
        assert server.sent_of_flood < FLOOD - 16
        assert {len(slow.recv()) for _ in range(FLOOD - 1)} == {MIB}


def is_at_a_stand(server: Server, other: ClientConnection) -> bool:
    """Whether nothing more of the flood was sent while the relay had time for many other messages."""
    before = server.sent_of_flood
    for number in range(100):
        other.send(str(number))
        assert other.recv() == str(number)
    return before > 0 and server.sent_of_flood == before
