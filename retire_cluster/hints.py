"""Hints: "something changed, look at the database". Losing one costs a second, never a task.

Within a process a hint is a function call. Between processes on SQLite it is the file's data version, looked at
every 50 ms (7 microseconds a look). On Postgres it is a NOTIFY, sent by a thread of its own so that a database that
hangs costs no request anything; and as that may be lost too, every process looks for itself each second.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from django.conf import settings
from django.db import DatabaseError, connection

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger("retire_cluster.hints")

LOOK_S = 0.05  # SQLite: how soon another process's commit is noticed
SWEEP_S = 1.0  # elsewhere: how soon, should a notification be lost
TOGETHER_S = 0.005  # between two notifications: what is told meanwhile is one
BREAK_S = 5.0  # pause after a database that did not answer
LISTEN_S = 30.0  # how soon a dead connection is noticed
CHANNEL = "retire_cluster"

WORK: Final = "work"  # tasks were queued or ended
INTENT: Final = "intent"  # somebody wants something of a device: a cancel, a new setting
NEWS: Final = "news"  # events were recorded
Hint = Literal["work", "intent", "news"]
Listener = Callable[[Hint], None]

_guard = threading.Lock()
_listeners: list[Listener] = []


def subscribe(listener: Listener) -> Callable[[], None]:
    """Call the listener, from any thread, whenever there may be something new. Returns the way to stop it."""
    with _guard:
        _listeners.append(listener)
    if settings.WATCH_DATABASE:
        _watcher()
        if connection.vendor == "postgresql":
            _ear()

    def unsubscribe() -> None:
        with _guard:
            if listener in _listeners:
                _listeners.remove(listener)

    return unsubscribe


def notify(hint: Hint = WORK) -> None:
    """Tell everybody who listens, in this process and in others. Never blocks, never fails."""
    _tell_here(hint)
    tell_others(hint)


def tell_others(hint: Hint = WORK) -> None:
    """Tell the other processes. On SQLite they see the commit itself."""
    if settings.WATCH_DATABASE and connection.vendor == "postgresql":
        _mouth().tell(hint)


def _tell_here(hint: Hint) -> None:
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
                for hint in get_args(Hint):
                    _tell_here(hint)

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


# --- Postgres -------------------------------------------------------------------------------------------------

_process = uuid.uuid4().hex  # so that nobody listens to itself


class _Mouth(threading.Thread):
    """Sends this process's hints to the others."""

    def __init__(self) -> None:
        super().__init__(name="retire-cluster-hints-out", daemon=True)
        self._waiting: set[Hint] = set()
        self._wake = threading.Event()
        # Not one of the pool's connections: Celery closes its worker's pool after each job.
        self._own: psycopg.Connection[Any] | None = None

    def tell(self, hint: Hint) -> None:
        """Have the hint sent soon. Returns at once."""
        self._waiting.add(hint)
        self._wake.set()

    def run(self) -> None:
        import psycopg

        while True:
            self._wake.wait()
            self._wake.clear()
            try:
                self._send()
                time.sleep(TOGETHER_S)  # after the first of a kind, so that nobody waits for it alone
            except psycopg.Error as error:
                logger.warning("cannot tell other processes: %s", error, extra={"action": "hint"})
                self._own = None
                time.sleep(BREAK_S)

    def _send(self) -> None:
        import psycopg

        while self._waiting:
            if self._own is None or self._own.closed:
                self._own = psycopg.connect(**connection.get_connection_params(), autocommit=True)
            hint = self._waiting.pop()
            self._own.execute("SELECT pg_notify(%s, %s)", [CHANNEL, f"{_process} {hint}"])


class _Ear(threading.Thread):
    """Passes on what other processes tell."""

    def __init__(self) -> None:
        super().__init__(name="retire-cluster-hints-in", daemon=True)

    def run(self) -> None:
        import psycopg

        while True:
            try:
                self._listen()
            except psycopg.Error as error:
                logger.warning("cannot hear other processes: %s", error, extra={"action": "hint"})
                time.sleep(BREAK_S)

    @staticmethod
    def _listen() -> None:
        from retire_cluster.postgres.connection import Connection

        # Not one of the pool's connections: it would never be given back.
        with Connection.connect(**connection.get_connection_params(), autocommit=True) as own:
            own.execute(f"LISTEN {CHANNEL}")
            while True:
                for notification in own.notifies(timeout=LISTEN_S):
                    _heard(notification.payload)
                own.execute("SELECT 1")  # fails on a connection that died without a word


def _heard(payload: str) -> None:
    sender, _, hint = payload.partition(" ")
    for known in get_args(Hint):
        if hint == known and sender != _process:
            _tell_here(known)


@cache
def _mouth() -> _Mouth:
    mouth = _Mouth()
    mouth.start()
    return mouth


@cache
def _ear() -> _Ear:
    ear = _Ear()
    ear.start()
    return ear
