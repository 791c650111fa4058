"""Knows when PostgreSQL is away, so that the first who notices is the last who waits.

After a failure the server is asked once, on a connection of its own. While it does not answer, whoever wants a
connection is refused at once, and a thread asks again until it does.
"""

import logging
import os
import threading
import time
from collections.abc import Callable

logger = logging.getLogger("retire_cluster.database")

ASK_AGAIN_S = 0.5

Ask = Callable[[], str]  # "" when the server answers, else why it does not


class Outage:
    """One server's state as this process knows it."""

    def __init__(self, ask: Ask, back: Callable[[], None], ask_again_s: float = ASK_AGAIN_S) -> None:
        """`back` is called when the server answers again, before anybody is let through to it."""
        self._ask = ask
        self._back = back
        self._ask_again_s = ask_again_s
        self._guard = threading.Lock()
        self._reason = ""
        # A child has no thread that watches; it finds out for itself.
        os.register_at_fork(after_in_child=self._forget)

    @property
    def reason(self) -> str:
        """Why the server is known to be away; empty while it is not."""
        return self._reason

    def suspect(self) -> None:
        """Something failed that may be the server's fault: ask it. Returns once the answer is known."""
        with self._guard:
            if self._reason or not (reason := self._ask()):
                return
            self._reason = reason
        logger.error("PostgreSQL is away: %s", reason, extra={"action": "database"})
        threading.Thread(target=self._watch, name="retire-cluster-database", daemon=True).start()

    def _watch(self) -> None:
        since = time.monotonic()
        while reason := self._ask():
            self._reason = reason
            time.sleep(self._ask_again_s)
        self._back()
        self._reason = ""
        away = time.monotonic() - since
        logger.warning("PostgreSQL answers again, after %.0f s", away, extra={"action": "database"})

    def _forget(self) -> None:
        self._guard = threading.Lock()
        self._reason = ""
