import asyncio
from collections.abc import Awaitable, Callable

import pytest

from retire_cluster.agent.execution import feed as module
from retire_cluster.agent.execution.feed import Feed
from retire_cluster.protocol.messages import Message, Output, Progress
from retire_cluster.protocol.states import Stream

A, B = "a" * 32, "b" * 32
OUT = Stream.STDOUT


class Watcher:
    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.feed = Feed(self.sent.append)

    def texts(self, attempt: str = A) -> list[str]:
        return [item.text for item in self.sent if isinstance(item, Output) and item.attempt == attempt]

    def progress(self) -> list[tuple[float | None, str]]:
        return [(item.percent, item.message) for item in self.sent if isinstance(item, Progress)]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)


def drive(scenario: Callable[[Watcher], Awaitable[None]]) -> None:
    async def run() -> None:
        await scenario(Watcher())

    asyncio.run(run())


def test_the_first_line_leaves_at_once_and_what_follows_travels_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 3600)

    async def scenario(watcher: Watcher) -> None:
        watcher.feed.write(A, OUT, b"one\n")
        await watcher.until(lambda: watcher.texts() == ["one\n"])
        for line in (b"two\n", b"three\n"):
            watcher.feed.write(A, OUT, line)
            await asyncio.sleep(0)
        assert watcher.texts() == ["one\n"]
        watcher.feed.end(A)
        assert watcher.texts() == ["one\n", "two\nthree\n"]

    drive(scenario)


def test_what_follows_leaves_when_its_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 0.01)

    async def scenario(watcher: Watcher) -> None:
        for count, line in enumerate((b"one\n", b"two\n"), start=1):
            watcher.feed.write(A, OUT, line)
            await watcher.until(lambda: len(watcher.texts()) == count)  # noqa: B023 used at once
        assert watcher.texts() == ["one\n", "two\n"]

    drive(scenario)


def test_the_end_of_an_attempt_sends_the_rest_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 3600)

    async def scenario(watcher: Watcher) -> None:
        watcher.feed.write(A, OUT, b"one\n")
        await watcher.until(lambda: bool(watcher.texts()))
        watcher.feed.write(A, OUT, b"two\n")
        watcher.feed.progress(A, 99, "nearly")
        watcher.feed.end(A)
        assert watcher.texts() == ["one\n", "two\n"]
        assert watcher.progress() == [(99.0, "nearly")]

    drive(scenario)


def test_a_new_connection_hears_again_what_may_be_lost() -> None:
    async def scenario(watcher: Watcher) -> None:
        watcher.feed.write(A, OUT, b"one\n")
        watcher.feed.end(A)
        watcher.feed.write(B, OUT, b"two\n")
        watcher.feed.progress(B, 50, "half")
        await watcher.until(lambda: bool(watcher.texts(B)) and bool(watcher.progress()))
        watcher.sent.clear()
        watcher.feed.connected()
        assert (watcher.texts(A), watcher.texts(B)) == (["one\n"], ["two\n"])
        await watcher.until(lambda: watcher.progress() == [(50.0, "half")])
        watcher.feed.acknowledged(A, 1)
        watcher.feed.acknowledged(B, 1)
        watcher.sent.clear()
        watcher.feed.connected()
        assert watcher.texts(A) + watcher.texts(B) == []

    drive(scenario)


def test_only_the_latest_progress_is_told_and_within_bounds() -> None:
    async def scenario(watcher: Watcher) -> None:
        for percent in (1, 2, 250):
            watcher.feed.progress(A, percent, "x" * 2000 + "\0")
        await watcher.until(lambda: bool(watcher.progress()))
        watcher.feed.progress(A, float("nan"), "\ud800 lost")
        await watcher.until(lambda: len(watcher.progress()) == 2)
        (first, second) = watcher.progress()
        assert first == (100.0, "x" * 500)
        assert second[0] is None
        assert second[1].isprintable()

    drive(scenario)


def test_a_dropped_attempt_is_silent() -> None:
    async def scenario(watcher: Watcher) -> None:
        watcher.feed.write(A, OUT, b"one\n")
        watcher.feed.progress(A, 1, "")
        watcher.feed.drop(A)
        watcher.feed.write(B, OUT, b"two\n")
        await watcher.until(lambda: bool(watcher.texts(B)))
        assert len(watcher.sent) == 1
        watcher.feed.end(A)
        watcher.feed.connected()
        assert watcher.texts(A) == []

    drive(scenario)


def test_ended_output_nobody_takes_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 1000)

    async def scenario(watcher: Watcher) -> None:
        for number in range(10):
            attempt = f"{number:032x}"
            watcher.feed.write(attempt, OUT, b"x" * 400)
            watcher.feed.end(attempt)
        watcher.sent.clear()
        watcher.feed.connected()
        assert [item.attempt for item in watcher.sent if isinstance(item, Output)] == [
            f"{number:032x}" for number in (8, 9)
        ]

    drive(scenario)
