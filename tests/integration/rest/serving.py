"""The REST API as a real server in this process: uvicorn, the ASGI bridge, Django, over a socket."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from django.db import connections

from clusterconfig import services as config
from retire_cluster.events.tail import Tail
from retire_cluster.http_bridge import HttpBridge
from retire_cluster.live.consumer import LiveConsumer

DEADLINE_S = 20.0


class Bridge(HttpBridge):
    """Two threads, whose connections the test can close at its end."""

    def __init__(self) -> None:
        super().__init__(2)
        self._tail = Tail(config.stream)
        self.websockets["/ws"] = LiveConsumer.as_asgi(bridge=self, tail=self._tail)

    def follows_nothing(self) -> bool:
        """Nobody listens to `/ws`, and what it knew of events is forgotten."""
        return self._tail._end is None

    def close_connections(self) -> None:
        self._tail.close()

        async def main() -> None:
            barrier = threading.Barrier(2)

            def close() -> None:
                barrier.wait(10)
                connections.close_all()

            await asyncio.gather(*(self._pool.run(close) for _ in range(2)))

        asyncio.run(main())


@contextmanager
def serving(app: Any) -> Iterator[int]:
    # Named as TCP, so that asyncio switches Nagle's delay off for its connections.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # so that a test can fill it
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, proxy_headers=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        until(lambda: server.started)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


def until(condition: Callable[[], Any]) -> Any:
    """What the condition returns once it is true; fails after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError("the condition never came true")


def raw(port: int, request: bytes) -> bytes:
    """Everything the server answers to these bytes until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)
