"""Answers that are dear to find, kept for a while: so long that finding them takes a small share of the time.

What is made of them may be wrong until they are found anew, though nothing happens any more. Who shows it asks with
`noted` how long that is, and shows it once more then.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
LEAST_S = 0.5  # what one page or answer asks for twice is found once
SHARE = 0.02  # of one thread's time that may go into finding one answer anew
MOST = 256  # answers kept; the one asked for longest ago is forgotten first


@dataclass(slots=True)
class Noted:
    """What was answered from memory: all of it can be found anew after so many seconds.

    What was found within the block is as it is now, however often it is asked for.
    """

    seconds: float = 0.0
    _found: set[tuple[int, str]] = field(default_factory=set)

    def was_found(self, by: object, question: str) -> None:
        self._found.add((id(by), question))

    def was_remembered(self, by: object, question: str, seconds: float) -> None:
        if (id(by), question) not in self._found:
            self.seconds = max(self.seconds, seconds)


_noted: ContextVar[Noted | None] = ContextVar("noted", default=None)


@contextmanager
def noted() -> Iterator[Noted]:
    """Note what is answered from memory within the block, in this thread."""
    found = Noted()
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


def stale_for() -> float:
    """Of the block one is in: seconds until all of what was answered from memory would be found anew."""
    found = _noted.get()
    return found.seconds if found is not None else 0.0


class Remembered(Generic[T]):
    """Answers by question, each kept for `seconds`, or longer if it takes that to pay for finding it."""

    def __init__(self, seconds: float = LEAST_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, tuple[float, T]] = OrderedDict()  # (good until, answer)

    def get(self, question: str, find: Callable[[], T]) -> T:
        """The answer, found anew when the one known is too old. One thread finds, the others take its answer."""
        with self._lock:
            known = self._answers.get(question)
            now, note = self._clock(), _noted.get()
            if known is None or now >= known[0]:
                known = self._answers[question] = self._found(find)
                if note is not None:
                    note.was_found(self, question)
            elif note is not None:
                note.was_remembered(self, question, known[0] - now)
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
