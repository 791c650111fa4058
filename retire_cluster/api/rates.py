"""Sliding windows: how many calls a client may make, and the counts, in this process or in Redis."""

import bisect
import logging
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import limits
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

OFF = "off"
MAX_AMOUNT = 100_000  # calls of one window: each is remembered until it leaves the window
LONGEST_S = 24 * 3600
MAX_CLIENTS = 10_000  # remembered in a process; beyond that the one longest unheard is forgotten
REDIS_TIMEOUT_S = 0.3  # a request never waits longer for its count
REDIS_AWAY_S = 5.0  # then it is asked again

logger = logging.getLogger("api.limits")


@dataclass(frozen=True, slots=True)
class Window:
    """At most `amount` calls within any `seconds`; `text` is how it was written."""

    amount: int
    seconds: int
    text: str


@dataclass(frozen=True, slots=True)
class Count:
    """A window after a call: calls left, and seconds until there is one more."""

    window: Window
    remaining: int
    frees_in_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the call may go on; `refused` is the window that says no."""

    counts: tuple[Count, ...]
    refused: Count | None = None

    @property
    def shown(self) -> Count:
        """The window a client is told about: the one that refused, else the tightest of a minute or longer.

        Bursts per second come and go before an answer arrives, so they are shown only where there is nothing else.
        """
        if self.refused:
            return self.refused
        long = [count for count in self.counts if count.window.seconds >= 60] or self.counts
        return min(long, key=lambda count: (count.remaining, count.window.seconds))


class Store(Protocol):
    """Counts of all clients."""

    def hit(self, client: str, windows: Sequence[Window]) -> Verdict: ...

    def give_back(self, client: str, windows: Sequence[Window]) -> None: ...


@lru_cache(maxsize=256)
def parse(text: str) -> tuple[Window, ...]:
    """Windows, shortest first, of `60/minute;1000/hour`; none of `off`. Raises ValueError saying what is wanted."""
    if text.strip().lower() == OFF:
        return ()
    try:
        items = limits.parse_many(text)
    except ValueError:
        raise ValueError(f"must be like 60/minute;1000/hour, or {OFF}; is {text!r}") from None
    windows = [Window(item.amount, item.get_expiry(), _words(item)) for item in items]
    if any(not 1 <= window.amount <= MAX_AMOUNT or window.seconds > LONGEST_S for window in windows):
        raise ValueError(f"must allow 1 to {MAX_AMOUNT} calls in at most a day; is {text!r}")
    return tuple(sorted(windows, key=lambda window: window.seconds))


def _words(item: limits.RateLimitItem) -> str:
    times = f"{item.multiples} " if item.multiples > 1 else ""
    return f"{item.amount}/{times}{item.GRANULARITY.name}"


class MemoryStore:
    """Counts in this process: exact, for any number of threads, and bounded.

    Not the one of `limits`: that starts a timer thread per quiet call and keeps every client for ever.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._calls: OrderedDict[str, array[float]] = OrderedDict()

    def hit(self, client: str, windows: Sequence[Window]) -> Verdict:
        """Count a call against all windows, or against none if one is full."""
        with self._lock:
            now = self._clock()
            calls = self._calls_of(client, now - max(window.seconds for window in windows))
            counts = [_count(calls, window, now) for window in windows]
            if not all(count.remaining for count in counts):
                return _refusal(counts)
            calls.append(now)
            return Verdict(tuple(_count(calls, window, now) for window in windows))

    def give_back(self, client: str, windows: Sequence[Window]) -> None:
        """Forget the client's newest call: it was not one of those that are to be few."""
        with self._lock:
            if calls := self._calls.get(client):
                calls.pop()

    def _calls_of(self, client: str, oldest: float) -> "array[float]":
        calls = self._calls.setdefault(client, array("d"))
        self._calls.move_to_end(client)
        if len(self._calls) > MAX_CLIENTS:
            self._calls.popitem(last=False)
        del calls[: bisect.bisect_right(calls, oldest)]
        return calls


def _count(calls: "array[float]", window: Window, now: float) -> Count:
    used = len(calls) - bisect.bisect_right(calls, now - window.seconds)
    # A limit that was lowered may find more calls than it allows: room comes when enough of them have left.
    first = len(calls) - min(used, window.amount)
    frees_in_s = calls[first] + window.seconds - now if used else 0.0
    return Count(window, max(0, window.amount - used), frees_in_s)


def _refusal(counts: Sequence[Count]) -> Verdict:
    """Of the full windows the one that stays full longest says when to come again."""
    full = [count for count in counts if not count.remaining] or counts
    return Verdict((), max(full, key=lambda count: count.frees_in_s))


class RedisStore:
    """Counts in Redis, exact across processes; counts of its own, and one line in the log, while Redis is away."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        # Here, because most servers have no Redis, and loading its client is a tenth of their start.
        from redis import ConnectionPool
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        pool = ConnectionPool.from_url(
            url,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._storage = RedisStorage(
            "redis://", connection_pool=pool, key_prefix="retire-cluster:limits", wrap_exceptions=True
        )
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._own = MemoryStore()
        self._clock = clock
        self._away_until = 0.0

    def hit(self, client: str, windows: Sequence[Window]) -> Verdict:
        """Count a call against the windows, shortest first, up to the one that is full."""
        if self._clock() >= self._away_until:
            try:
                verdict = self._hit(client, windows)
            except StorageError as error:
                self._lost(error)
            else:
                self._away_until = 0.0
                return verdict
        return self._own.hit(client, windows)

    def give_back(self, client: str, windows: Sequence[Window]) -> None:
        """Forget the client's newest call, which the lists of `limits` have first."""
        self._own.give_back(client, windows)
        if self._clock() < self._away_until:
            return
        try:
            for window in windows:
                key = self._storage.prefixed_key(_item(window).key_for(client))
                self._storage.storage.lpop(key)
        except self._storage.base_exceptions as error:
            self._lost(StorageError(error))

    def _hit(self, client: str, windows: Sequence[Window]) -> Verdict:
        admitted = all(self._limiter.hit(_item(window), client) for window in windows)
        counts = tuple(self._count(client, window) for window in windows)
        return Verdict(counts) if admitted else _refusal(counts)

    def _count(self, client: str, window: Window) -> Count:
        stats = self._limiter.get_window_stats(_item(window), client)
        return Count(window, max(0, stats.remaining), max(0.0, stats.reset_time - time.time()))

    def _lost(self, error: StorageError) -> None:
        if not self._away_until:
            logger.warning(
                "rate limits are counted per process: Redis does not answer: %s",
                error.storage_error,
                extra={"action": "limits"},
            )
        self._away_until = self._clock() + REDIS_AWAY_S


def _item(window: Window) -> limits.RateLimitItem:
    return limits.RateLimitItemPerSecond(window.amount, window.seconds)
