"""Asking services how they are, without ever waiting for one that hangs.

Each is asked in a thread of its own, at most once in two seconds however many want to know, never twice at once.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

PATIENCE_S = 1.0  # what whoever wants to know waits at most
FIRST_S = 3.0  # the first time, when modules are loaded and connections are made
LATE_S = 5.0  # being asked for so long counts as no answer; until then the one before stands
KEPT_S = 2.0  # an answer; monitors and dashboards may ask at any rate

Answer = TypeVar("Answer")


class Question(Generic[Answer]):
    """One service. `ask` says how it is and raises nothing; it may take as long as it wants."""

    def __init__(self, name: str, ask: Callable[[], Answer]) -> None:
        self._name = name
        self._ask = ask
        self.forget()

    def forget(self) -> None:
        """Ask anew at the next call. An answer under way is nobody's any more."""
        self._guard = threading.Lock()
        self._asked_at = 0.0
        self._call: _Call[Answer] | None = None
        self._before: _Call[Answer] | None = None

    def put(self) -> None:
        """Have it asked now, unless it is being asked, or answered just now."""
        with self._guard:
            if self._call is not None and not self._call.is_old():
                return
            self._before = self._call
            self._asked_at, self._call = time.monotonic(), _Call(self._ask)
            self._call.name = f"retire-cluster-ask-{self._name}"
            self._call.start()

    def answer(self) -> Answer | None:
        """What it says, or said just before, should it be slow today; None when it does not answer."""
        with self._guard:
            call, before, asked_at = self._call, self._before, self._asked_at
        if call is None:
            return None
        patience = PATIENCE_S if before else FIRST_S
        if not call.over.wait(max(0.0, asked_at + patience - time.monotonic())) and before:
            call = before if time.monotonic() - asked_at < LATE_S else call
        return call.answers[0] if call.answers else None


class _Call(threading.Thread, Generic[Answer]):
    """One time of asking."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        super().__init__(daemon=True)
        self._ask = ask
        self._ended_at = 0.0
        self.over = threading.Event()
        self.answers: list[Answer] = []

    def run(self) -> None:
        try:
            self.answers.append(self._ask())
        finally:
            self._ended_at = time.monotonic()
            self.over.set()

    def is_old(self) -> bool:
        """Whether it is over, and for so long that its answer is worth nothing any more."""
        return self.over.is_set() and time.monotonic() - self._ended_at >= KEPT_S
