"""Following the events: decoded once, whoever listens, and what is kept for one who does not read."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import pytest
from django.db import connection

from clusterconfig import services as config
from retire_cluster import db
from retire_cluster.events import outbox
from retire_cluster.events.frames import Cursor, Event, Wanted, unpack
from retire_cluster.events.subscription import MAX_UNREAD, MAX_UNREAD_BYTES, Subscription
from retire_cluster.events.tail import Tail
from tests.integration.rest.serving import DEADLINE_S

pytestmark = pytest.mark.django_db(transaction=True)
SUBSCRIBERS = 50
T = TypeVar("T")
PLACE = Cursor("abc", 0)


@pytest.fixture
def following() -> Iterator[Tail]:
    found = Tail(config.stream)
    yield found
    found.close()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of each event that is made ready to be sent."""
    numbers: list[int] = []

    def counted(stream: str, seq_from: int, *row: Any) -> Iterator[Event]:
        for event in unpack(stream, seq_from, *row):
            numbers.append(event.seq)
            yield event

    monkeypatch.setattr("retire_cluster.events.tail.unpack", counted)
    return numbers


async def off_loop(function: Callable[[], T]) -> T:
    """Run something that asks the database."""

    def work() -> T:
        try:
            return function()
        finally:
            connection.close()

    return await asyncio.to_thread(work)


def tell(*names: str) -> None:
    for name in names:
        with db.write_transaction():
            outbox.record("device.changed", {"device_id": name})


async def next_of(subscription: Subscription) -> Event:
    async with asyncio.timeout(DEADLINE_S):
        while (event := subscription.take()) is None:
            await subscription.wait(DEADLINE_S)
    return event


async def missed_since(following: Tail, seq: int) -> list[Event]:
    subscription, since = Subscription(Wanted()), Cursor(await off_loop(config.stream), seq)
    beginning = await off_loop(lambda: following.attach(subscription, since))
    assert beginning.missed is not None
    return list(beginning.missed)


def test_an_event_is_made_ready_once_for_all_who_listen(following: Tail, decoded: list[int]) -> None:
    async def main() -> None:
        subscriptions = [Subscription(Wanted()) for _ in range(SUBSCRIBERS)]
        for subscription in subscriptions:
            await off_loop(partial(following.attach, subscription, None))
        await off_loop(lambda: tell("a", "b", "c"))
        told = [[await next_of(subscription) for _ in range(3)] for subscription in subscriptions]
        assert [event.seq for event in told[0]] == [1, 2, 3]
        assert all(mine is first for others in told for mine, first in zip(others, told[0], strict=True))

    asyncio.run(main())
    assert decoded == [1, 2, 3]


def test_what_many_missed_while_the_server_was_down_is_made_ready_once(
    following: Tail, decoded: list[int]
) -> None:
    tell("a", "b", "c", "d")

    async def main() -> None:
        for since in [2, 0, 1, 4] + [0] * SUBSCRIBERS:
            assert [event.seq for event in await missed_since(following, since)] == list(range(since + 1, 5))

    asyncio.run(main())
    assert sorted(decoded) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("most", "size"), [(MAX_UNREAD, 1), (MAX_UNREAD_BYTES // 1024, 1024)], ids=["events", "bytes"]
)
def test_of_a_client_that_does_not_read_no_more_is_kept_than_the_limit(most: int, size: int) -> None:
    async def main() -> None:
        subscription = Subscription(Wanted())
        subscription.begin(PLACE)
        event = Event(1, "device", frozenset(), "x" * size)

        def lags_after(count: int) -> bool:
            subscription.offer([event] * count, PLACE)
            return subscription.lagged

        assert [lags_after(most), lags_after(1)] == [False, True]
        assert subscription.take() is None
        subscription.offer([event], PLACE)
        assert subscription.take() is None, "it begins anew first"

    asyncio.run(main())


def test_a_wake_up_that_comes_after_its_event_was_taken_is_no_silence() -> None:
    async def main() -> None:
        subscription = Subscription(Wanted())
        subscription.offer([Event(1, "device", frozenset(), "x")], PLACE)
        assert subscription.take() is not None
        assert subscription.take() is None
        subscription.news.set()
        assert await subscription.wait(DEADLINE_S)
        assert subscription.take() is None
        assert not await subscription.wait(0)

    asyncio.run(main())
