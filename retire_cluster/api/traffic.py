"""How many requests this process answered in the last minute, and how many of them it got wrong."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 60
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Traffic:
    """`request_rate` in requests per second, `error_rate` in percent: answers with a status of 500 up."""

    request_rate: float
    error_rate: float


class Window:
    """Counts of the last minute, second by second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._seconds: dict[int, tuple[int, int]] = {}  # (answers, errors) by second

    def note(self, status: int) -> None:
        """An answer with this status was sent."""
        second = int(self._clock())
        with self._lock:
            if second not in self._seconds:
                self._forget_before(second - WINDOW_S)
            answers, errors = self._seconds.get(second, (0, 0))
            self._seconds[second] = (answers + 1, errors + (status >= 500))

    def measure(self) -> Traffic:
        """The rates; of a process younger than a minute, over its life."""
        now = self._clock()
        with self._lock:
            self._forget_before(int(now) - WINDOW_S)
            answers = sum(count for count, _ in self._seconds.values())
            errors = sum(count for _, count in self._seconds.values())
        seconds = min(WINDOW_S, max(1.0, now - self._began))
        return Traffic(round(answers / seconds, 2), round(100 * errors / answers, 1) if answers else 0.0)

    def _forget_before(self, second: int) -> None:
        for old in [known for known in self._seconds if known <= second]:
            del self._seconds[old]


@dataclass(frozen=True, slots=True)
class Kind:
    """What requests are counted by: words of ours only, never a client's."""

    method: str
    route: str
    status: str  # 2xx, 4xx, ...


class Counts:
    """Requests since they were last taken over: how many of each kind, and how long they took in all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Kind] = Counter()
        self._seconds: Counter[Kind] = Counter()
        self._taken_at = time.monotonic()

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        kind = Kind(method if method in METHODS else "other", route, f"{status // 100}xx")
        with self._lock:
            self._counts[kind] += 1
            self._seconds[kind] += seconds  # type: ignore[assignment]  # Counter's values are numbers

    def due(self) -> bool:
        """Whether they wait for longer than a minute."""
        return time.monotonic() - self._taken_at >= WINDOW_S and bool(self._counts)

    def take(self) -> tuple[dict[Kind, int], dict[Kind, float]]:
        """Take them over; they start from nothing again."""
        with self._lock:
            counts, seconds = dict(self._counts), {kind: float(s) for kind, s in self._seconds.items()}
            self._counts.clear()
            self._seconds.clear()
            self._taken_at = time.monotonic()
        return counts, seconds


window = Window()
counts = Counts()
keep: Callable[[], None] | None = None
"""Stores the counts where every process sees them; set by the layer that knows the database."""
