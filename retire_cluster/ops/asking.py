"""Asking services how they are, without ever waiting for one that hangs.

Each is asked in a thread of its own, at most once in two seconds however many want to know, never twice at once.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

PATIENCE_S = 1.0  # what whoever wants to know waits at most
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
        self._asked_at = float("-inf")
        self._answered: threading.Event | None = None
        self._answers: list[Answer] = []

    def put(self) -> None:
        """Have it asked now, unless it is being asked, or answered just now."""
        with self._guard:
            under_way = self._answered is not None and not self._answered.is_set()
            if under_way or time.monotonic() - self._asked_at < KEPT_S:
                return
            self._asked_at = time.monotonic()
            self._answered, self._answers = threading.Event(), []
            run = self._run(self._answered, self._answers)
            threading.Thread(target=run, name=f"retire-cluster-ask-{self._name}", daemon=True).start()

    def answer(self) -> Answer | None:
        """What it said; None when it has said nothing PATIENCE_S after it was asked."""
        with self._guard:
            answered, answers = self._answered, self._answers
            left = self._asked_at + PATIENCE_S - time.monotonic()
        if answered is not None:
            answered.wait(max(0.0, left))
        return answers[0] if answers else None

    def _run(self, answered: threading.Event, answers: list[Answer]) -> Callable[[], None]:
        def run() -> None:
            try:
                answers.append(self._ask())
            finally:
                answered.set()

        return run
