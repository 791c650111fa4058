"""The fault proxy does to connections what it is asked to, and nothing else."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from retire_cluster.torture.proxy import Link
from tests.unit.torture.test_frames import HEAD, frame

PATIENCE_S = 20.0
Use = Callable[[Link, "Peer"], Awaitable[None]]


class Peer:
    """A target that keeps what it hears and answers each piece, and its clients."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended: list[str] = []
        self.answer = b"yes"
        self.news = asyncio.Event()
        self.clients: list[asyncio.StreamWriter] = []

    async def connect(self, link: Link) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client's connection through the link; closed when the test is over."""
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        self.clients.append(writer)
        return reader, writer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                self.heard += data
                self.news.set()
                writer.write(self.answer)
            self.ended.append("closed")
        except ConnectionResetError:
            self.ended.append("reset")
        finally:
            self.news.set()
            writer.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.news.clear()
                await self.news.wait()


def play(use: Use, *, frames: bool = False) -> None:
    """Run the use with a link to a listening peer."""

    async def run() -> None:
        peer = Peer()
        server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
        link = Link(server.sockets[0].getsockname()[1], frames=frames)
        await link.start()
        try:
            await use(link, peer)
        finally:
            for client in peer.clients:
                client.transport.abort()
            await link.stop()
            server.close()

    asyncio.run(run())


async def within(work: Awaitable[bytes]) -> bytes:
    return await asyncio.wait_for(work, PATIENCE_S)


async def silent(reader: asyncio.StreamReader) -> bool:
    """Whether nothing arrives although everything that could run has run."""
    reading = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait_for(asyncio.shield(reading), 0.2)
    except TimeoutError:
        return True
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)  # until then the reader counts as being read
    return False


def test_without_a_fault_both_ways_are_open() -> None:
    async def use(link: Link, peer: Peer) -> None:
        reader, writer = await peer.connect(link)
        writer.write(b"hello")
        assert await within(reader.readexactly(3)) == b"yes"
        assert peer.heard == b"hello"
        writer.close()
        await peer.until(lambda: peer.ended == ["closed"])

    play(use)


def test_a_reset_reaches_both_ends() -> None:
    async def use(link: Link, peer: Peer) -> None:
        reader, writer = await peer.connect(link)
        writer.write(b"hello")
        await within(reader.readexactly(3))
        link.reset()
        with pytest.raises(ConnectionResetError):
            await within(reader.read())
        await peer.until(lambda: peer.ended == ["reset"])

    play(use)


def test_an_answer_is_lost_after_the_request_arrived_and_only_once() -> None:
    async def use(link: Link, peer: Peer) -> None:
        link.cut("down", 0)
        reader, writer = await peer.connect(link)
        writer.write(b"do it")
        with pytest.raises(ConnectionResetError):
            await within(reader.read())
        assert (peer.heard, link.faults_met) == (b"do it", 1)
        reader, writer = await peer.connect(link)
        writer.write(b"again")
        assert await within(reader.readexactly(3)) == b"yes"

    play(use)


def test_a_request_is_cut_after_the_bytes_it_was_to_have() -> None:
    async def use(link: Link, peer: Peer) -> None:
        link.cut("up", 4)
        reader, writer = await peer.connect(link)
        writer.write(b"do nothing")
        with pytest.raises(ConnectionResetError):
            await within(reader.read())
        await peer.until(lambda: bool(peer.ended))
        assert peer.heard in (b"do n", b"")  # a reset may overtake what was sent before it

    play(use)


def test_a_half_open_connection_carries_one_way_and_delivers_when_healed() -> None:
    async def use(link: Link, peer: Peer) -> None:
        link.stall("down")
        reader, writer = await peer.connect(link)
        writer.write(b"hello")
        await peer.until(lambda: peer.heard == b"hello")
        assert await silent(reader)
        link.heal()
        assert await within(reader.readexactly(3)) == b"yes"

    play(use)


def test_on_a_silent_line_not_even_the_end_of_a_connection_arrives() -> None:
    async def use(link: Link, peer: Peer) -> None:
        reader, writer = await peer.connect(link)
        writer.write(b"hello")
        await within(reader.readexactly(3))
        link.stall("up", "down")
        writer.close()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.until(lambda: bool(peer.ended)), 0.2)
        link.heal()
        await peer.until(lambda: peer.ended == ["closed"])

    play(use)


def test_a_refusing_link_lets_nobody_in_until_it_is_healed() -> None:
    async def use(link: Link, peer: Peer) -> None:
        link.refuse()
        reader, writer = await peer.connect(link)
        with pytest.raises(ConnectionResetError):
            await within(reader.read())
        link.heal()
        reader, writer = await peer.connect(link)
        writer.write(b"hello")
        assert await within(reader.readexactly(3)) == b"yes"

    play(use)


def test_frames_are_sent_twice_and_the_handshake_is_not() -> None:
    async def use(link: Link, peer: Peer) -> None:
        link.replay("up")
        _, writer = await peer.connect(link)
        text = frame(b"[]", mask=True)
        writer.write(HEAD + text[:3])
        await writer.drain()
        writer.write(text[3:])
        await peer.until(lambda: len(peer.heard) >= len(HEAD) + 2 * len(text))
        assert peer.heard == HEAD + text + text
        assert link.faults_met == 1

    play(use, frames=True)


def test_a_target_that_is_away_shows_as_a_reset() -> None:
    async def use(_: Link, peer: Peer) -> None:
        gone = Link(1, frames=False)
        await gone.start()
        reader, _writer = await peer.connect(gone)
        with pytest.raises(ConnectionResetError):
            await within(reader.read())
        await gone.stop()

    play(use)
