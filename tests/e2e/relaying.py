"""A relay as a process, and gateways that are none: one that records bytes, one that is only a WebSocket."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from retire_cluster.gateway.certificate import ensure
from tests.e2e.cluster import Process, clean_environment, free_port, until


class Relay:
    """`retire-cluster-api --relay` with a home of its own, in which it should leave nothing."""

    def __init__(self, directory: Path, gateway_port: int, *flags: str, **variables: str) -> None:
        self.home = directory
        self.home.mkdir()
        self.port = free_port()
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=70)
        where = ("--port", str(self.port), "--cluster-host", "127.0.0.1", "--cluster-port", str(gateway_port))
        self.process = Process(
            directory.with_suffix(".log"),
            "retire-cluster-api",
            "--relay",
            *where,
            *flags,
            environment={**clean_environment(), "HOME": str(self.home), **variables},
        )
        until(self._answers, "the relay to serve")

    def _answers(self) -> bool:
        assert self.process.alive(), self.process.said()
        return self.api.get("/health").status_code in (200, 503)

    def health(self) -> Any:
        answer = self.api.get("/health")
        body = answer.json()
        assert (answer.status_code == 503) == (body["status"] == "unhealthy"), answer.text
        assert set(body["components"]) == {"api", "cluster_server", "task_scheduler"}
        return body

    def until_reason(self, words: str) -> str:
        """Why the gateway does not serve, once it has these words in it."""

        def reason() -> str:
            found = str(self.health()["services"]["gateway"].get("reason", ""))
            return found if words in found else ""

        return str(until(reason, f"/health to say {words!r}"))

    def stop(self) -> None:
        self.api.close()
        if self.process.alive():
            self.process.kill()


@contextmanager
def relay(directory: Path, gateway_port: int, *flags: str, **variables: str) -> Iterator[Relay]:
    found = Relay(directory, gateway_port, *flags, **variables)
    try:
        yield found
    finally:
        found.stop()


def dial(where: Relay, path: str = "/ws", **options: Any) -> ClientConnection:
    """A client's WebSocket to a relay."""
    offered = [Subprotocol("other"), Subprotocol("second")]
    url = f"ws://127.0.0.1:{where.port}{path}"
    wire: ClientConnection = connect(url, subprotocols=offered, proxy=None, **options)
    return wire


def refusal(where: Relay, path: str, **headers: str) -> Response:
    """The HTTP answer to who wants a WebSocket there; fails if there is one."""
    with pytest.raises(InvalidStatus) as caught:
        dial(where, path, additional_headers=headers).close()
    return caught.value.response


def say(port: int, raw: bytes) -> bytes:
    """Send bytes as they are, and read until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.sendall(raw)
        return b"".join(iter(lambda: wire.recv(65536), b""))


@dataclass
class Recorder:
    """A server that keeps every byte it is sent and gives each request the same answer."""

    port: int
    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    hangs_up: bool = True  # after the answer; else the client has to
    tls: ssl.SSLContext | None = None
    probes: int = 0  # questions for its health, which are not kept
    received: list[bytes] = field(default_factory=list)  # one entry a connection
    left: int = 0  # connections that the client ended

    def heard(self) -> bytes:
        """All of it."""
        return b"".join(self.received)

    def headers(self) -> dict[bytes, bytes]:
        """Of the last request; a repeated one fails the test."""
        head = self.received[-1].partition(b"\r\n\r\n")[0]
        lines = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
        names = [name.lower() for name, _, _ in lines]
        assert len(names) == len(set(names)), names
        return {name.lower(): value for name, _, value in lines}

    def serve(self, listener: socket.socket) -> None:
        """Until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                threading.Thread(target=self._connection, args=(plain,), daemon=True).start()

    def _connection(self, plain: socket.socket) -> None:
        plain.settimeout(60)
        with plain, contextlib.suppress(OSError), self._secured(plain) as wire:
            head = b""
            while b"\r\n\r\n" not in head:
                block = wire.recv(65536)
                if not block:
                    return
                head += block
            if head.startswith(b"GET /health "):
                self.probes += 1
                wire.sendall(HEALTH)
            else:
                self._converse(wire, head)

    def _secured(self, plain: socket.socket) -> socket.socket:
        return self.tls.wrap_socket(plain, server_side=True) if self.tls else plain

    def _converse(self, wire: socket.socket, head: bytes) -> None:
        number = len(self.received)
        self.received.append(head)
        wire.sendall(self.answer)
        while not self.hangs_up:
            block = wire.recv(65536)
            if not block:
                self.left += 1
                return
            self.received[number] += block


HEALTH_BODY = b'{"components":{"api":"healthy","cluster_server":"healthy","task_scheduler":"healthy"}}'
HEALTH = (
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(HEALTH_BODY) + HEALTH_BODY
)


@contextmanager
def recorder(tls: ssl.SSLContext | None = None) -> Iterator[Recorder]:
    """Listen for requests until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Recorder(listener.getsockname()[1], tls=tls)
        thread = threading.Thread(target=found.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def server_tls(directory: Path) -> tuple[ssl.SSLContext, str]:
    """A certificate of the kind gateways make, and its fingerprint."""
    made = ensure(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    return context, made.fingerprint


@contextmanager
def websocket_server(
    handler: Callable[[ServerConnection], None], tls: ssl.SSLContext | None = None, **options: Any
) -> Iterator[int]:
    """A WebSocket server on every path; its port."""
    with serve(handler, "127.0.0.1", 0, ssl=tls, compression=None, **options) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join(10)
