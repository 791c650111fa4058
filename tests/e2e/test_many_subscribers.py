"""A thousand clients of `/ws` at one server: each sees everything once and in order, whatever others do.

`-s` prints what it cost.
"""

import asyncio
import contextlib
import json
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from retire_cluster.events.subscription import MAX_UNREAD_BYTES
from tests.e2e.cluster import Cluster, running, until
from tests.stalled import Stalled

pytestmark = pytest.mark.timeout(300)  # seconds; it takes 30 on two cores that have nothing else to do
SUBSCRIBERS = 1000
CUT = 200  # of them lose their connection half-way
STALLED = 5  # beside them never read; as many do not read until the end
TASKS = 75  # in each half; each task is three events, and each half one more
# Submissions of so many tasks that their events are more than a server keeps for a client that does not read.
FLOODS = 14
FLOOD_TASKS = 1000
OPENING = 50  # handshakes at the same time
PATIENCE_S = 60.0
MOST_KEPT_BYTES = (
    MAX_UNREAD_BYTES + 2 * 65_536
)  # for a client that does not read; its connection has buffers, too


@dataclass(frozen=True, slots=True)
class Told:
    """What a subscriber needs of a frame."""

    kind: str
    seq: int
    cursor: str


class Story:
    """What all subscribers together were told. A frame is decoded once: the others got the same text."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self._told: dict[str, Told] = {}

    def read(self, text: str) -> Told:
        told = self._told.get(text)
        if told is None:
            frame = json.loads(text)
            told = self._told[text] = Told(frame["type"], frame["seq"], frame["cursor"])
            if "." in told.kind:
                self.events[text] = frame
        return told

    @property
    def size(self) -> int:
        """Bytes of all events."""
        return sum(map(len, self.events))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.events.values() if frame["type"] == kind]


class Subscriber:
    """A client, and the numbers of the events it was told."""

    def __init__(self, address: str, story: Story) -> None:
        self._address, self._story = address, story
        self._link: ClientConnection
        self._reading: asyncio.Task[None]
        self.first = 0  # the number its snapshot is as of
        self.seen: list[int] = []
        self.cursor = ""
        self.others: list[str] = []  # kinds of frames that are no events

    @property
    def last(self) -> int:
        return self.seen[-1] if self.seen else self.first

    async def open(self) -> None:
        """Connect, for the first time or again, and read from now on."""
        query = f"?since={self.cursor}" if self.cursor else ""
        self._link = await connect(
            self._address + query, compression=None, proxy=None, ping_interval=None, open_timeout=PATIENCE_S
        )
        told = self._story.read(str(await self._link.recv()))
        self.others.append(told.kind)
        if not self.cursor:
            self.first, self.cursor = told.seq, told.cursor
        self._reading = asyncio.create_task(self._read())

    async def cut(self) -> None:
        """As when the network fails: no goodbye. What has arrived is still read."""
        self._link.transport.abort()
        await self._reading

    async def close(self) -> None:
        await self._link.close()
        await self._reading

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self._link:
                told = self._story.read(str(text))
                if "." in told.kind:
                    self.seen.append(told.seq)
                    self.cursor = told.cursor
                elif told.kind != "heartbeat":
                    self.others.append(told.kind)


class Audience:
    """All the subscribers, and the API of what they listen to."""

    def __init__(self, cluster: Cluster) -> None:
        self.story = Story()
        address = f"ws://127.0.0.1:{cluster.port}/ws"
        self.all = [Subscriber(address, self.story) for _ in range(SUBSCRIBERS)]
        self.cut, self.steady = self.all[:CUT], self.all[CUT:]
        self._cluster = cluster

    async def post(self, path: str, body: Any = None) -> Any:
        answer = await asyncio.to_thread(self._cluster.api.post, f"/api/v1/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    async def submit(self, count: int, **wishes: Any) -> set[str]:
        """A batch; returns its tasks' ids."""
        task = {"task_type": "echo", "payload": {}, **wishes}
        return {
            item["task_id"] for item in (await self.post("tasks/batch", {"tasks": [task] * count}))["tasks"]
        }

    async def have_seen(self, seq: int, who: list[Subscriber]) -> None:
        await become_true(lambda: all(subscriber.last >= seq for subscriber in who))

    async def have_ended(self, tasks: set[str]) -> None:
        """Somebody was told of the end of all these tasks."""
        await become_true(
            lambda: tasks <= {event["data"]["task_id"] for event in self.story.of("task.finished")}
        )

    async def submission(self, tasks: set[str]) -> int:
        """The number of the event that tells of it."""
        found: list[int] = []

        def told() -> bool:
            submissions = self.story.of("task.submitted")
            found.extend(event["seq"] for event in submissions if set(event["data"]["task_ids"]) == tasks)
            return bool(found)

        await become_true(told)
        return found[0]

    def newest(self) -> int:
        return max(subscriber.last for subscriber in self.steady)

    def prove(self, ran: set[str]) -> None:
        """Everybody was told everything once, in order and in the same words."""
        first, end = min(subscriber.first for subscriber in self.all), self.newest()
        for subscriber in self.all:
            assert subscriber.seen == list(range(subscriber.first + 1, end + 1))
        assert [subscriber.others for subscriber in self.steady] == [["snapshot"]] * len(self.steady)
        assert [subscriber.others for subscriber in self.cut] == [["snapshot", "resumed"]] * len(self.cut)
        assert sorted(event["seq"] for event in self.story.events.values()) == list(range(first + 1, end + 1))
        ends = Counter(event["data"]["task_id"] for event in self.story.of("task.finished"))
        assert ends == Counter(ran)


async def become_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)


async def open_all(subscribers: list[Subscriber]) -> None:
    gate = asyncio.Semaphore(OPENING)

    async def opened(subscriber: Subscriber) -> None:
        async with gate:
            await subscriber.open()

    await asyncio.gather(*map(opened, subscribers))


@asynccontextmanager
async def audience_of(cluster: Cluster) -> AsyncIterator[Audience]:
    found = Audience(cluster)
    await open_all(found.all)
    yield found
    await asyncio.gather(*(subscriber.close() for subscriber in found.all))


@pytest.fixture
def files() -> Iterator[None]:
    """As many open files as may be; the server inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def cluster(files: None, tmp_path: Path) -> Iterator[Cluster]:
    with running(tmp_path) as found:
        found.join("helper", "--slots", "4")
        found.online("helper")
        yield found


@contextmanager
def measured(server: psutil.Process, audience: Audience) -> Iterator[None]:
    """Print what the block delivered, and the server's part in it."""

    def now() -> tuple[float, float, int]:
        times = server.cpu_times()
        seen = sum(len(subscriber.seen) for subscriber in audience.all)
        return time.perf_counter(), times.user + times.system, seen

    before = now()
    yield
    took, cpu, seen = (after - earlier for after, earlier in zip(now(), before, strict=True))
    print(
        f"{seen:.0f} deliveries in {took:.1f} s: {seen / took:.0f} a second, {seen / took / SUBSCRIBERS:.0f} "
        f"events a second to each; server {100 * cpu / took:.0f} % of a core, {1e6 * cpu / seen:.0f} us for one"
    )


def test_a_thousand_see_each_event_once_and_in_order_whoever_is_cut_or_stalls(cluster: Cluster) -> None:
    with stalled(cluster) as deaf, contextlib.ExitStack() as stack:
        told, late = asyncio.run(everything_happens(cluster, lambda: stack.enter_context(stalled(cluster))))
        for client in late:
            begins_anew(client, told)
        last = cluster.submit()
        for client in late:
            assert client.until("task.submitted")["data"]["task_ids"] == [last]
        ports = {client.port for client in deaf}
        until(lambda: ports.isdisjoint(peers(cluster)), "the server to end the connections nobody reads from")


@contextmanager
def stalled(cluster: Cluster) -> Iterator[list[Stalled]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(Stalled(cluster.port))) for _ in range(STALLED)]


def begins_anew(client: Stalled, told: int) -> None:
    """A client that reads at last gets the beginning, in order, and then hears that it missed the rest."""
    frames = [client.next()]
    while frames[-1]["type"] != "reset":
        frames.append(client.next())
    first, *events, reset = [frame for frame in frames if frame["type"] != "heartbeat"]
    assert [event["seq"] for event in events] == [first["seq"] + 1 + number for number in range(len(events))]
    assert "in time" in reset["data"]["reason"]
    assert client.taken < MOST_KEPT_BYTES < told
    snapshot = client.next()
    assert (snapshot["type"], snapshot["cursor"]) == ("snapshot", reset["cursor"])


def peers(cluster: Cluster) -> set[int]:
    """The ports at the other end of the server's connections."""
    connections = psutil.Process(cluster.server.pid).net_connections("tcp")
    return {connection.raddr.port for connection in connections if connection.raddr}


async def everything_happens(
    cluster: Cluster, stall: Callable[[], list[Stalled]]
) -> tuple[int, list[Stalled]]:
    """Returns how many bytes were told while the clients stalled, and these clients."""
    server = psutil.Process(cluster.server.pid)
    empty = server.memory_info().rss
    async with audience_of(cluster) as audience:
        each = (server.memory_info().rss - empty) / SUBSCRIBERS / 1024
        print(f"\n{each:.1f} KiB resident for each of {SUBSCRIBERS}")
        with measured(server, audience):
            first = await audience.submit(TASKS)
            await audience.have_seen(await audience.submission(first) + TASKS, audience.all)
            await asyncio.gather(*(subscriber.cut() for subscriber in audience.cut))
            second = await audience.submit(TASKS)
            await audience.have_seen(await audience.submission(second), audience.steady)
            await open_all(audience.cut)
            await audience.have_ended(first | second)
            await audience.have_seen(audience.newest(), audience.all)
        late = await asyncio.to_thread(stall)
        before = audience.story.size
        for _ in range(FLOODS):
            tasks = await audience.submit(FLOOD_TASKS, requirements={"required_tags": ["nobody-has-this"]})
            await audience.have_seen(await audience.submission(tasks), audience.all)
        audience.prove(first | second)
        return audience.story.size - before, late
