"""Rate limits counted in a real Redis: exact across processes, and what happens when it goes away."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from retire_cluster.api import rates
from retire_cluster.api.rates import RedisStore, parse
from tests.redis.server import RedisServer

PROCESSES = 4
CALLS = 100
# Reports how many of its calls were admitted.
CALLER = """
import sys
from retire_cluster.api import rates
from retire_cluster.api.rates import RedisStore, parse
rates.REDIS_TIMEOUT_S = 60
store, windows = RedisStore(sys.argv[1]), parse("250/hour;500/2 hours")
sys.stdin.readline()
print(sum(store.hit("client", windows).refused is None for _ in range(int(sys.argv[2]))))
"""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that Redis answers late counts for itself; on a busy machine that says nothing."""
    monkeypatch.setattr(rates, "REDIS_TIMEOUT_S", 60.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    running = RedisServer(tmp_path)
    yield running
    running.stop()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_four_processes_together_get_no_call_too_many(server: RedisServer) -> None:
    callers = [
        subprocess.Popen(
            [sys.executable, "-c", CALLER, server.url, str(CALLS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    for caller in callers:
        assert caller.stdin is not None
        caller.stdin.write("go\n")
        caller.stdin.flush()
    admitted = [int(caller.communicate(timeout=60)[0]) for caller in callers]

    assert sum(admitted) == 250
    assert RedisStore(server.url).hit("client", parse("250/hour")).refused is not None
    assert RedisStore(server.url).hit("another", parse("250/hour")).counts[0].remaining == 249


def test_the_count_says_what_is_left_and_when_there_is_more(server: RedisServer) -> None:
    store, windows = RedisStore(server.url), parse("2/minute;9/hour")
    first, second, third = (store.hit("a", windows) for _ in range(3))

    assert [count.remaining for count in first.counts] == [1, 8]
    assert second.shown.remaining == 0
    assert third.refused is not None
    assert third.refused.window.text == "2/minute"
    assert 0 < third.refused.frees_in_s <= 60


def test_a_call_costs_two_commands_a_limit(server: RedisServer) -> None:
    """To count it, and to say what is left. A task costs nothing else there: the database tells who waits."""
    store, windows = RedisStore(server.url), parse("2000/minute;9000/hour;9999/2 hours")
    store.hit("a", windows)  # connects, and loads its script
    with redis.Redis.from_url(server.url) as client, client.monitor() as monitor:
        told = monitor.listen()
        for _ in range(CALLS):
            store.hit("a", windows)
        client.ping()
        seen: list[dict[str, str]] = []
        while not seen or seen[-1]["command"] != "PING":
            seen.append(next(told))

    asked = [item["command"].split()[0] for item in seen if item["client_type"] != "lua"]
    commands = [word for word in asked if word not in ("HELLO", "CLIENT", "PING")]  # ours, at the end
    assert commands == ["EVALSHA"] * (2 * len(windows) * CALLS)


def test_without_redis_each_process_counts_and_says_so_once(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="api.limits")
    clock = Clock()
    store, windows = RedisStore(server.url, clock), parse("3/hour")
    store.hit("a", windows)

    server.stop()
    lost = []
    for _ in range(4):
        lost.append(store.hit("a", windows).refused is None)
        clock.now += rates.REDIS_AWAY_S  # each one asks again
    assert lost == [True, True, True, False]
    assert len(caplog.records) == 1

    server.start()
    assert store.hit("a", windows).counts[0].remaining == 2  # a Redis that was killed has forgotten
    server.stop()
    store.hit("a", windows)
    assert len(caplog.records) == 2


def test_a_redis_that_is_away_is_not_asked_at_every_call(server: RedisServer) -> None:
    clock = Clock()
    store, windows = RedisStore(server.url, clock), parse("9/hour")
    server.stop()
    store.hit("a", windows)
    server.start()

    assert store.hit("a", windows).counts[0].remaining == 7  # counted here
    clock.now += rates.REDIS_AWAY_S
    assert store.hit("a", windows).counts[0].remaining == 8  # counted there


def test_a_call_given_back_is_free_again_there_and_while_redis_is_away(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    store, windows = RedisStore(server.url, Clock()), parse("2/hour")
    for _ in range(5):
        assert store.hit("a", windows).refused is None
        store.give_back("a", windows)
    assert store.hit("a", windows).counts[0].remaining == 1

    server.stop()
    store.give_back("a", windows)
    assert [record.name for record in caplog.records] == ["api.limits"]
    for _ in range(5):
        assert store.hit("a", windows).refused is None
        store.give_back("a", windows)
