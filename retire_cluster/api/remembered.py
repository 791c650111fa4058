"""Answers that are dear to find, kept for a while: so long that finding them takes a small share of the time."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
SHARE = 0.02  # of one thread's time that may go into finding one answer anew
MOST = 256  # answers kept; the one asked for longest ago is forgotten first


class Remembered(Generic[T]):
    """Answers by question, each at least `seconds` and at most as long as it takes to pay for finding it."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, tuple[float, T]] = OrderedDict()  # (good until, answer)

    def get(self, question: str, find: Callable[[], T]) -> T:
        """The answer, found anew when the one known is too old. One thread finds, the others take its answer."""
        with self._lock:
            known = self._answers.get(question)
            if known is None or self._clock() >= known[0]:
                known = self._answers[question] = self._found(find)
            self._answers.move_to_end(question)
            if len(self._answers) > MOST:
                self._answers.popitem(last=False)
            return known[1]

    def known(self, question: str) -> T | None:
        """The answer if it is still good; nothing is found anew."""
        with self._lock:
            kept = self._answers.get(question)
            return kept[1] if kept is not None and self._clock() < kept[0] else None

    def forget(self) -> None:
        """Find every answer anew."""
        with self._lock:
            self._answers.clear()

    def _found(self, find: Callable[[], T]) -> tuple[float, T]:
        began = self._clock()
        answer = find()
        took = self._clock() - began
        return began + took + max(self._seconds, took / SHARE), answer
