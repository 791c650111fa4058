"""Devices at rest: what they send is read in rounds, in order, and nothing of it is lost."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import uvicorn
import uvloop
from websockets.sync.client import ClientConnection, connect

from devices import pings
from retire_cluster import db
from retire_cluster.gateway.rounds import AT_ONCE, Rounds
from retire_cluster.gateway.websocket import LATER, GuardedWebSocket
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import Outcome
from tests.e2e.cluster import until
from tests.integration.gateway.cluster import Cluster, sent, submit

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Listener:
    """A server whose only peer is at rest: it keeps what may be read later, and what its application received."""

    def __init__(self) -> None:
        self.reads: list[Callable[[], None]] = []
        self.received: list[str] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.loop = asyncio.get_running_loop()
        await receive()
        scope["state"][LATER](self._later)
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            self.received.append(event["text"])
        self.received.append(event["type"])

    def _later(self, read: Callable[[], None]) -> bool:
        self.reads.append(read)
        return True

    def read(self) -> None:
        """The round begins."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.reads.pop())


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture(params=LOOPS)
def peer(listener: Listener, request: pytest.FixtureRequest) -> Iterator[ClientConnection]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(listener, ws=GuardedWebSocket, lifespan="off", log_config=None)
        )
        thread = threading.Thread(target=_run, args=(server, bound, LOOPS[request.param]), daemon=True)
        thread.start()
        until(lambda: server.started, "the server to listen")
        with connect(f"ws://127.0.0.1:{bound.getsockname()[1]}/node", compression=None) as connection:
            yield connection
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def _run(server: uvicorn.Server, bound: socket.socket, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(server.serve([bound]))


def test_a_small_frame_is_read_when_the_round_comes(listener: Listener, peer: ClientConnection) -> None:
    peer.send("one")
    until(lambda: listener.reads, "the frame to arrive")
    assert listener.received == []
    listener.read()
    until(lambda: listener.received == ["one"], "the frame to be read")
    peer.send("two")
    until(lambda: listener.reads, "the next to be held as well")


def test_what_follows_is_read_at_once_and_in_order(listener: Listener, peer: ClientConnection) -> None:
    peer.send("one")
    until(lambda: listener.reads, "the frame to arrive")
    peer.send("two")
    until(lambda: listener.received == ["one", "two"], "both to be read")
    listener.read()  # finds nothing
    assert peer.ping().wait(20), "the connection goes on"
    assert listener.received == ["one", "two"]


@pytest.mark.parametrize("frame", ["x" * 1600, ["frag", "ments"]], ids=["long", "fragmented"])
def test_whatever_is_no_small_whole_text_is_not_held(
    listener: Listener, peer: ClientConnection, frame: str | list[str]
) -> None:
    assert peer.ping().wait(20)
    assert listener.reads == []
    peer.send(frame)
    until(lambda: len(listener.received) == 1, "the frame to be read")
    assert listener.reads == []


def test_what_was_held_comes_before_the_end(listener: Listener, peer: ClientConnection) -> None:
    peer.send("last words")
    until(lambda: listener.reads, "the frame to arrive")
    peer.socket.shutdown(socket.SHUT_RDWR)
    until(lambda: len(listener.received) == 2, "the end")
    assert listener.received == ["last words", "websocket.disconnect"]


def test_a_round_reads_all_whatever_one_of_them_does() -> None:
    read: list[str] = []
    trouble: list[BaseException] = []

    def fail() -> None:
        raise ValueError("of one device")

    async def scenario() -> None:
        loop, rounds = asyncio.get_running_loop(), Rounds()
        loop.set_exception_handler(lambda loop, context: trouble.append(context["exception"]))
        async with asyncio.timeout(20):
            for number in ("first", "second"):
                for step in (partial(read.append, f"{number} a"), fail, partial(read.append, f"{number} b")):
                    rounds.add(step)
                while f"{number} b" not in read:
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())
    assert read == ["first a", "first b", "second a", "second b"]
    assert list(map(str, trouble)) == ["of one device"] * 2


def test_what_is_urgent_does_not_wait_for_a_whole_round() -> None:
    happened: list[str] = []

    async def scenario() -> None:
        loop, rounds = asyncio.get_running_loop(), Rounds()

        def begin() -> None:
            loop.call_soon(happened.append, "urgent")  # what one of the first brings about

        rounds.add(begin)
        for number in range(4 * AT_ONCE):
            rounds.add(partial(happened.append, str(number)))
        async with asyncio.timeout(20):
            while len(happened) <= 4 * AT_ONCE:
                await asyncio.sleep(0.01)

    asyncio.run(scenario())
    assert happened.index("urgent") <= 2 * AT_ONCE
    assert [item for item in happened if item != "urgent"] == [str(number) for number in range(4 * AT_ONCE)]


@pytest.mark.django_db(transaction=True)
def test_a_device_rests_while_nothing_is_asked_of_it() -> None:
    cluster = Cluster()
    link = cluster.join("alice")
    sessions = cluster.committer.sessions
    assert not sessions.is_at_rest(link), "that it has its secret is not stored yet"
    cluster.say(link, wire.Heartbeat())
    assert sessions.is_at_rest(link)

    pings.request(pings.new_id(), "alice", now=db.now())
    cluster.step()
    (asked,) = sent(link, wire.Ping)
    assert not sessions.is_at_rest(link)
    cluster.say(link, wire.Pong(nonce=asked.nonce))
    assert sessions.is_at_rest(link)

    submit()
    cluster.step()
    (order,) = sent(link, wire.Assign)
    assert not sessions.is_at_rest(link)
    cluster.say(
        link,
        wire.Accepted(attempts=(order.attempt,)),
        wire.Result(attempt=order.attempt, outcome=Outcome.SUCCESS, result_json="{}"),
    )
    assert sessions.is_at_rest(link)

    cluster.drop(link)
    assert not sessions.is_at_rest(link)
