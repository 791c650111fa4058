"""Hints: "something changed, look at the database". Losing one costs a second, never a task.

Within a process a hint is a function call. Between processes on SQLite it is the file's data version, looked at
every 50 ms (7 microseconds a look); on Postgres every process looks for itself each second.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Final, Literal

from django.conf import settings
from django.db import DatabaseError, connection

logger = logging.getLogger("retire_cluster.hints")

LOOK_S = 0.05  # SQLite: how soon another process's commit is noticed
SWEEP_S = 1.0  # elsewhere: how soon, without any message broker

WORK: Final = "work"  # tasks were queued or ended
INTENT: Final = "intent"  # somebody wants something of a device: a cancel, a new setting
Hint = Literal["work", "intent"]
Listener = Callable[[Hint], None]

_guard = threading.Lock()
_listeners: list[Listener] = []


def subscribe(listener: Listener) -> Callable[[], None]:
    """Call the listener, from any thread, whenever there may be something new. Returns the way to stop it."""
    with _guard:
        _listeners.append(listener)
    if settings.WATCH_DATABASE:
        _watcher()

    def unsubscribe() -> None:
        with _guard:
            if listener in _listeners:
                _listeners.remove(listener)

    return unsubscribe


def notify(hint: Hint = WORK) -> None:
    """Tell this process's listeners; the database tells the others. Never blocks, never fails."""
    with _guard:
        listeners = list(_listeners)
    for listener in listeners:
        try:
            listener(hint)
        except Exception:
            logger.exception("a listener for hints failed", extra={"action": "hint"})


class _Watcher(threading.Thread):
    """Notices what other processes committed and passes it on as hints."""

    def __init__(self) -> None:
        super().__init__(name="retire-cluster-watcher", daemon=True)

    def run(self) -> None:
        sqlite = connection.vendor == "sqlite"
        seen = -1
        while True:
            time.sleep(LOOK_S if sqlite else SWEEP_S)
            try:
                version = self._data_version() if sqlite else seen + 1
            except DatabaseError as error:
                logger.warning("cannot look for changes: %s", error, extra={"action": "hint"})
                connection.close()
                continue
            if version != seen:
                seen = version
                notify(WORK)
                notify(INTENT)

    @staticmethod
    def _data_version() -> int:
        """Changes when another connection has committed to the file."""
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            return int(cursor.fetchone()[0])


@cache
def _watcher() -> _Watcher:
    """The process's watcher, started with the first listener."""
    watcher = _Watcher()
    watcher.start()
    return watcher
