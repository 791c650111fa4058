"""A fault proxy: one listening port in front of a target, whose connections suffer what is asked for.

It works on TCP streams, so it cannot lose bytes in the middle of one (TCP would not either): a silent network is
a direction that stands still, and a broken one is a reset. `up` is from the client to the target, `down` is back.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from retire_cluster.torture.frames import Splitter

Way = Literal["up", "down"]
WAYS: tuple[Way, Way] = ("up", "down")
STOP_S = 5.0  # for the connections to end
_CHUNK = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close() sends RST


@dataclass(eq=False)
class _Pair:
    """One client's connection and ours to the target."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        """End both sides as a broken network does."""
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if sock is not None and not writer.transport.is_closing():
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()
        self.over.set()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()
        self.over.set()


class Link:
    """The way between one client and a target on this machine. Everything belongs to one event loop."""

    def __init__(self, target: int, *, frames: bool) -> None:
        """Take a port of the system's choice. `frames`: the streams are WebSockets, so frames can be sent twice."""
        self._target = target
        self._frames = frames
        self._pairs: set[_Pair] = set()
        self._open = {way: asyncio.Event() for way in WAYS}
        self._cuts: dict[Way, int] = {}
        self._replays: set[Way] = set()
        self._delay_s = 0.0
        self._refuses = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._server: asyncio.Server | None = None
        self.port: int = self._socket.getsockname()[1]
        self.faults_met = 0  # cuts and replays that really happened
        self.heal()

    async def start(self) -> None:
        """Let clients through; until now they wait."""
        self._server = await asyncio.start_server(self._serve, sock=self._socket)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()
        self.heal()
        self.reset()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_S)

    # --- faults -----------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """No fault from now on; what stood still arrives."""
        for gate in self._open.values():
            gate.set()
        self._cuts.clear()
        self._replays.clear()
        self._delay_s, self._refuses = 0.0, False

    def reset(self) -> None:
        """Break every connection now."""
        for pair in list(self._pairs):
            pair.reset()

    def refuse(self) -> None:
        """Break every connection, and each new one at once."""
        self._refuses = True
        self.reset()

    def stall(self, *ways: Way) -> None:
        """Nothing arrives in these directions, not even the end of a connection: one of them is half-open."""
        for way in ways:
            self._open[way].clear()

    def delay(self, seconds: float) -> None:
        """Everything arrives later."""
        self._delay_s = seconds

    def cut(self, way: Way, after: int) -> None:
        """Break the next connection that carries more than so many bytes in the direction; these still arrive.

        `down` and 0: whatever was asked has been done, and the answer is lost.
        """
        self._cuts[way] = after

    def replay(self, way: Way) -> None:
        """Send every frame twice."""
        self._replays.add(way)

    # --- connections ------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _Pair((writer, writer)).reset()  # the server is away: so says its own machine
            return
        pair = _Pair((writer, target_writer))
        if self._refuses:
            pair.reset()
            return
        self._pairs.add(pair)
        pumps = [
            asyncio.ensure_future(self._pump("up", reader, target_writer, pair)),
            asyncio.ensure_future(self._pump("down", target_reader, writer, pair)),
        ]
        try:
            await pair.over.wait()
        finally:
            self._pairs.discard(pair)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.close()
            target_writer.close()

    async def _pump(
        self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair
    ) -> None:
        splitter = Splitter() if self._frames else None
        try:
            while data := await reader.read(_CHUNK):
                await self._pass(way)
                for piece in self._pieces(way, data, splitter):
                    writer.write(piece)
                    if self._exhausted(way):
                        await writer.drain()
                        pair.reset()
                        return
                await writer.drain()
            await self._pass(way)
            pair.close()
        except OSError:
            await self._pass(way)  # on a line that stands still nobody learns of a reset
            pair.reset()

    async def _pass(self, way: Way) -> None:
        await self._open[way].wait()
        if self._delay_s:
            await asyncio.sleep(self._delay_s)

    def _pieces(self, way: Way, data: bytes, splitter: Splitter | None) -> Iterator[bytes]:
        """What to send on: cut where a cut is due, frames twice where they are to be replayed."""
        for piece, is_text in splitter.feed(data) if splitter else [(data, False)]:
            for _ in range(2 if is_text and way in self._replays else 1):
                yield self._spend(way, piece)
            self.faults_met += is_text and way in self._replays

    def _spend(self, way: Way, piece: bytes) -> bytes:
        if way not in self._cuts:
            return piece
        left = self._cuts[way]
        self._cuts[way] = left - len(piece)
        return piece[: max(0, left)]

    def _exhausted(self, way: Way) -> bool:
        if self._cuts.get(way, 0) >= 0:
            return False
        del self._cuts[way]
        self.faults_met += 1
        return True
