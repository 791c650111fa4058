"""Clients of a WebSocket that tells what happens, many in one process of their own: as cheap as Python allows.

Commands come as lines of JSON (peers/driver.py). A frame counts by the first UUID in it; when it came is noted once
for all frames of one read, by the monotonic clock, which all processes of a machine share.
"""

import asyncio
import base64
import os
import re
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from benchmarks.harness.figures import percentile
from benchmarks.peers import driver

OPENING = 50  # handshakes at a time
PATIENCE_S = 120.0
# A stalled client: as on a network, where the server's kernel does not take megabytes for it.
SMALL_BUFFER_BYTES, SEGMENT_BYTES = 4096, 1460
_IDENTITY = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_KIND = re.compile(rb'"type": ?"([a-z_.]+)"')
T = TypeVar("T")


class Frames:
    """Server frames out of a stream of bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Opcodes and contents of the frames that are whole now."""
        data = self._rest + data if self._rest else data
        found, at, size = [], 0, len(data)
        while size - at >= 2:
            length, start = data[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if size < start or size - start < length:
                break
            found.append((data[at] & 0x0F, data[start : start + length]))
            at = start + length
        self._rest = data[at:]
        return found


class Story:
    """What all clients were told since `begin`: when by event, and which events by client."""

    def __init__(self) -> None:
        self._identities: dict[bytes, str] = {}
        self.begin()

    def begin(self) -> None:
        self._identities.clear()
        self.came: dict[str, list[float]] = {}
        self.kinds: Counter[str] = Counter()

    def read(self, content: bytes) -> str:
        """The event's identity; "" for a frame that is none. The same bytes are looked at once."""
        identity = self._identities.get(content)
        if identity is None:
            kind = _KIND.search(content)
            word = kind[1].decode() if kind else ""
            about = _IDENTITY.search(content) if "." in word or word == "note" else None
            identity = self._identities[content] = about[0].decode() if about else f"-{word}"
        if identity.startswith("-"):
            self.kinds[identity[1:]] += 1
            return ""
        return identity


class Listener(asyncio.Protocol):
    """One client. `seen` are the events it was told of."""

    def __init__(self, request: bytes, story: Story) -> None:
        self.seen: list[str] = []
        self.lost = False
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request, self._story = request, story
        self._frames = Frames()
        self._head: bytes | None = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self._head is not None:
            data = self._handshake(data)
        came = self._story.came
        for opcode, content in self._frames.feed(data):
            if opcode == 1 and (identity := self._story.read(content)):
                self.seen.append(identity)
                came.setdefault(identity, []).append(now)

    def _handshake(self, data: bytes) -> bytes:
        assert self._head is not None
        head, end, rest = (self._head + data).partition(b"\r\n\r\n")
        if not end:
            self._head = head
            return b""
        self._head = None
        if b" 101 " in head.partition(b"\r\n")[0]:
            self.open.set_result(None)
        else:
            self.open.set_exception(ConnectionError(head.decode(errors="replace")[:200]))
        return rest

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.open.done():
            self.open.set_exception(exc or ConnectionError("closed before the handshake was done"))


class Stalled:
    """A client that reads nothing until it is asked to."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self._line = socket.socket()
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        self._line.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        self._line.settimeout(PATIENCE_S)
        self._line.connect(address)
        self._line.sendall(request)
        self._rest = b""
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._line.recv(1024)
        self._rest = self._rest.partition(b"\r\n\r\n")[2]

    def drain(self, quiet_s: float) -> tuple[int, Counter[str]]:
        """Read until nothing comes for a while: bytes, and how many frames of which kind; "close" for the end."""
        frames, story = Frames(), Story()
        taken, kinds = len(self._rest), Counter[str]()
        data = self._rest
        self._line.settimeout(quiet_s)
        while True:
            for opcode, content in frames.feed(data):
                kinds["close" if opcode == 8 else "event" if story.read(content) else "other"] += 1
            try:
                data = self._line.recv(65536)
            except (TimeoutError, ConnectionError):
                break
            if not data:
                break
            taken += len(data)
        self._line.close()
        return taken, kinds + story.kinds


class Listeners:
    """All clients of this process; every method is one command."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._story = Story()
        self._all: list[Listener] = []
        self._stalled: list[Stalled] = []

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def open(self, port: int, path: str, count: int, key: str = "") -> dict[str, Any]:
        """Connect so many and begin to listen."""
        return self._run(self._open(port, _request(port, path, key), count))

    async def _open(self, port: int, request: bytes, count: int) -> dict[str, Any]:
        gate = asyncio.Semaphore(OPENING)

        async def one() -> None:
            async with gate:
                _, found = await self._loop.create_connection(
                    lambda: Listener(request, self._story), "127.0.0.1", port
                )
                await found.open
                self._all.append(found)

        began = time.monotonic()
        await asyncio.gather(*(one() for _ in range(count)))
        return {"seconds": time.monotonic() - began}

    def stall(self, port: int, path: str, count: int, key: str = "") -> dict[str, Any]:
        """Connect so many more, which do not read."""
        request = _request(port, path, key)
        self._stalled += [Stalled(("127.0.0.1", port), request) for _ in range(count)]
        return {}

    def drain(self, quiet_s: float) -> dict[str, Any]:
        """Have the stalled ones read at last: the most bytes one got, and what kinds of frames, by client."""
        with ThreadPoolExecutor(len(self._stalled)) as pool:
            found = list(pool.map(lambda client: client.drain(quiet_s), self._stalled))
        self._stalled.clear()
        return {
            "most_bytes": max(taken for taken, _ in found),
            "kinds": [dict(kinds) for _, kinds in found],
        }

    def begin(self) -> dict[str, Any]:
        """Forget what was told so far."""
        return self._run(self._begin())

    async def _begin(self) -> dict[str, Any]:
        self._story.begin()
        for listener in self._all:
            listener.seen.clear()
        return {}

    def report(self, sent: dict[str, float], wait_s: float) -> dict[str, Any]:
        """What became of these events, each with the moment it was sent: waits until all have come, or so long."""
        return self._run(self._report(sent, wait_s))

    async def _report(self, sent: dict[str, float], wait_s: float) -> dict[str, Any]:
        came, expected = self._story.came, len(sent) * len(self._all)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if sum(len(came.get(identity, ())) for identity in sent) >= expected:
                break
            await asyncio.sleep(0.05)
        waited = [1000 * (moment - at) for identity, at in sent.items() for moment in came.get(identity, ())]
        seen = [Counter(item for item in listener.seen if item in sent) for listener in self._all]
        first = min(sent.values())
        return {
            "p50": percentile(waited, 0.5) if waited else None,
            "p99": percentile(waited, 0.99) if waited else None,
            "most": max(waited, default=None),
            "seconds": max((max(moments) for moments in came.values()), default=first) - first,
            "came": len(waited),
            "lost": expected - sum(len(counts) for counts in seen),
            "doubled": sum(sum(counts.values()) - len(counts) for counts in seen),
            "closed": sum(listener.lost for listener in self._all),
            "kinds": dict(self._story.kinds),
        }


def _request(port: int, path: str, key: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade"]
    nonce = base64.b64encode(os.urandom(16)).decode()
    lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {nonce}"]
    lines += [f"X-API-Key: {key}"] if key else []
    return "\r\n".join([*lines, "", ""]).encode()


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = _new_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    mine = Listeners(loop)
    driver.serve(
        {
            "open": mine.open,
            "stall": mine.stall,
            "drain": mine.drain,
            "begin": mine.begin,
            "report": mine.report,
        }
    )


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


if __name__ == "__main__":
    main()
