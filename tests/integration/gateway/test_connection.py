"""One agent's connection in the event loop, between a socket and a committer that the test plays."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from retire_cluster.gateway import budget
from retire_cluster.gateway import connection as module
from retire_cluster.gateway.budget import Allowance
from retire_cluster.gateway.connection import Connection
from retire_cluster.gateway.guard import MAX_FAILED_JOINS, Guard
from retire_cluster.gateway.inputs import Closed, Input, Opened, Received
from retire_cluster.protocol import codec
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.codec import MAX_FIRST_FRAME_BYTES
from retire_cluster.protocol.states import Outcome, Platform

ADDRESS = "192.0.2.9"
WELCOME = wire.Welcome(
    protocol=1,
    device_id="mallory",
    session=1,
    server_version="1",
    incarnation="0" * 32,
    pulse=wire.Pulse(interval_s=1, silence_s=3),
)
REGISTER = wire.Register(
    protocol=1,
    device_id="mallory",
    run_id="0" * 32,
    agent_version="1",
    capabilities=wire.Capabilities(platform=Platform.LINUX),
)


class Peer:
    """The other end: sends what the test says, keeps what it is sent, commits at once what was submitted."""

    def __init__(self, guard: Guard) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.submitted: list[Input] = []
        self.frames: list[dict[str, Any]] = []
        self.commits = True
        self.welcomes = True
        self.connection = Connection(
            ADDRESS, self.incoming.get, self._sent, self._submit, lambda: None, guard
        )
        self.serving = asyncio.create_task(self.connection.serve())

    async def _sent(self, event: dict[str, Any]) -> None:
        self.frames.append(event)

    def _submit(self, item: Input) -> None:
        self.submitted.append(item)
        if isinstance(item, Opened) and self.welcomes:
            self.connection.send([WELCOME])
        if isinstance(item, Received) and self.commits:
            self.connection.frame_done()

    def text(self, text: str) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def say(self, *messages: wire.Message) -> None:
        for frame in codec.encode(messages):
            self.text(frame)

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def over(self) -> None:
        """Until the connection has ended by itself."""
        await asyncio.wait_for(self.serving, 20)

    def heard(self) -> list[wire.Message]:
        texts = [event["text"] for event in self.frames if event["type"] == "websocket.send"]
        return [message for text in texts for message in codec.decode_from_gateway(text)]

    @property
    def goodbye(self) -> wire.Goodbye:
        (found,) = [message for message in self.heard() if isinstance(message, wire.Goodbye)]
        return found

    @property
    def closed(self) -> Closed:
        (found,) = [item for item in self.submitted if isinstance(item, Closed)]
        return found


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(limited())


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts that never fill up again within a test."""
    limits = {
        "frames": Allowance(per_s=0.001, at_once=50),
        "bytes": Allowance(per_s=0.001, at_once=1_000_000),
        "rows": Allowance(per_s=0.001, at_once=5000),
    }
    monkeypatch.setattr(budget, "ALLOWANCES", limits)


FLOODS = {
    "frames": lambda peer: peer.say(wire.Heartbeat()),
    "bytes": lambda peer: peer.say(
        wire.Result(attempt="0" * 32, outcome=Outcome.SUCCESS, result_json="x" * 90_000)
    ),
    "rows": lambda peer: peer.say(wire.Stopped(attempts=tuple(uuid4().hex for _ in range(400)))),
}


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.usefixtures("small")
def test_a_device_that_floods_is_cut_off_with_the_reason(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        peer = Peer(Guard())
        peer.say(REGISTER)
        for _ in range(60):
            FLOODS[kind](peer)
        await peer.over()
        assert (peer.goodbye.code, f" {kind} a second" in peer.goodbye.reason) == ("protocol_error", True)
        assert f"{kind} a second" in peer.closed.reason
        assert peer.frames[-1]["type"] == "websocket.close"
        taken = [item for item in peer.submitted if isinstance(item, Received)]
        assert 0 < len(taken) < 60

    run(scenario)
    assert f"cut off {ADDRESS}" in caplog.text


@pytest.mark.usefixtures("small")
def test_connecting_anew_does_not_help(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        guard = Guard()
        for attempt in range(3):
            peer = Peer(guard)
            peer.say(REGISTER)
            for _ in range(60):
                peer.say(wire.Heartbeat())
            await peer.over()
            taken = [item for item in peer.submitted if isinstance(item, Received)]
            assert bool(taken) == (attempt == 0)

    run(scenario)


@pytest.mark.usefixtures("small")
def test_an_impostor_spends_nothing_of_the_device_s() -> None:
    async def scenario() -> None:
        guard = Guard()
        impostor = Peer(guard)
        impostor.welcomes = False
        impostor.say(REGISTER)
        for _ in range(60):
            impostor.say(wire.Heartbeat())
        await until(lambda: impostor.incoming.empty())
        impostor.connection.close(wire.Goodbye(code="bad_secret"))
        await impostor.over()
        assert guard.budgets.of("mallory").spend(time.monotonic(), frames=50) is None

    run(scenario)


def test_a_frame_that_names_too_many_attempts_is_an_unusable_one() -> None:
    async def scenario() -> None:
        peer = Peer(Guard())
        peer.say(REGISTER)
        await until(lambda: WELCOME in peer.heard())
        ids = ",".join(f'"{number:032x}"' for number in range(4096))
        peer.text("[" + ",".join([f'{{"type":"stopped","attempts":[{ids}]}}'] * 5) + "]")
        await until(lambda: [m for m in peer.heard() if isinstance(m, wire.Error)])
        peer.leave()
        await peer.over()
        assert [item for item in peer.submitted if isinstance(item, Received)] == []

    run(scenario)


def test_no_more_is_read_than_was_committed() -> None:
    async def scenario() -> None:
        peer = Peer(Guard())
        peer.commits = False
        peer.say(REGISTER)
        for _ in range(100):
            peer.say(wire.Heartbeat())
        await until(lambda: len(peer.submitted) == 1 + module.MAX_FRAMES_IN_FLIGHT)
        await asyncio.sleep(0)
        assert peer.incoming.qsize() == 100 - module.MAX_FRAMES_IN_FLIGHT
        peer.connection.close(wire.Goodbye(code="stopping"))
        await peer.over()

    run(scenario)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ("nonsense", "not JSON"),
        (json.dumps([{"type": "heartbeat"}]), "must be 'register'"),
        (json.dumps([]), "must be 'register'"),
        ("[" + " " * MAX_FIRST_FRAME_BYTES + "]", f"{MAX_FIRST_FRAME_BYTES} bytes"),
        (json.dumps([{"type": "\x1b[31m\n\u202e"}]), "unknown message type"),
    ],
)
def test_who_does_not_begin_with_a_registration_is_sent_away(
    frame: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        peer = Peer(Guard())
        peer.text(frame)
        await peer.over()
        assert (peer.goodbye.code, words in peer.goodbye.reason) == ("protocol_error", True)
        assert peer.submitted == []

    run(scenario)
    assert words in caplog.text


def test_who_says_nothing_is_sent_away_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REGISTER_WITHIN_S", 0.05)

    async def scenario() -> None:
        guard = Guard()
        peer = Peer(guard)
        await peer.over()
        assert "no registration within" in peer.goodbye.reason
        assert guard._unregistered == {}

    run(scenario)


def test_sockets_that_have_not_registered_are_counted_until_they_are_gone() -> None:
    async def scenario() -> None:
        guard = Guard()
        peers = [Peer(guard) for _ in range(64)]
        await until(lambda: guard.admits(ADDRESS) is not None)
        for peer in peers:
            peer.leave()
        await asyncio.gather(*(peer.over() for peer in peers))
        assert guard.admits(ADDRESS) is None

    run(scenario)


@pytest.mark.parametrize("code", ["bad_token", "bad_secret"])
def test_ten_refused_joins_close_the_door_for_a_while(code: str) -> None:
    async def scenario() -> None:
        guard = Guard()
        for _ in range(MAX_FAILED_JOINS):
            assert guard.admits(ADDRESS) is None
            peer = Peer(guard)
            peer.welcomes = False
            peer.say(REGISTER)
            await until(lambda: peer.submitted)  # noqa: B023 awaited in the loop
            peer.connection.close(wire.Goodbye(code=code))  # type: ignore[arg-type]
            await peer.over()
        assert "joins" in (guard.admits(ADDRESS) or "")

    run(scenario)


def test_the_fifth_unusable_frame_ends_the_connection_and_each_is_answered() -> None:
    async def scenario() -> None:
        peer = Peer(Guard())
        peer.say(REGISTER)
        for text in ("{", "[1]", '[{"type":"result"}]', '[{"type":"assign"}]', '[{"type":["x"]}]', "[]"):
            peer.text(text)
        await peer.over()
        assert len([message for message in peer.heard() if isinstance(message, wire.Error)]) == 5
        assert "5 unusable frames" in peer.goodbye.reason

    run(scenario)


def test_binary_frames_are_unusable() -> None:
    async def scenario() -> None:
        peer = Peer(Guard())
        peer.incoming.put_nowait({"type": "websocket.receive", "bytes": b"\x00\xff"})
        await peer.over()
        assert "text, not binary" in peer.goodbye.reason

    run(scenario)


def test_an_agent_that_takes_slots_and_reads_nothing_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_QUEUED_PAYLOADS", 1000)
    order = wire.Assign(
        attempt="0" * 32, task="0" * 32, task_type="echo", payload_json="x" * 400, timeout_s=60
    )

    async def scenario() -> None:
        peer = Peer(Guard())
        peer.say(REGISTER)
        await asyncio.wait_for(_until(lambda: peer.heard() == [WELCOME]), 20)
        peer.connection.send([order, order])
        await asyncio.wait_for(_until(lambda: peer.heard().count(order) == 2), 20)
        peer.connection.send([order, order])  # what was written does not count any more
        await asyncio.wait_for(_until(lambda: peer.heard().count(order) == 4), 20)
        peer.connection.send([order] * 3)
        await peer.over()
        goodbye = peer.heard()[-1]
        assert isinstance(goodbye, wire.Goodbye)
        assert goodbye.reason == "the agent does not read what it is sent"

    asyncio.run(scenario())


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_only_a_device_whose_heartbeats_are_far_apart_may_be_read_later() -> None:
    async def scenario() -> None:
        peer = Peer(Guard())
        peer.say(REGISTER)
        await until(lambda: peer.heard())
        assert not peer.connection.is_calm, "its welcome says each second"
        for interval_s, expected in ((30.0, True), (2.0, False)):
            pulse = wire.Pulse(interval_s=interval_s, silence_s=90)
            peer.connection.send([wire.Config(version=1, pulse=pulse)])
            assert peer.connection.is_calm is expected
        peer.leave()
        await peer.over()

    run(scenario)
