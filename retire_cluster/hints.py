"""Hints: "something changed, look at the database". Losing one costs a second, never a task.

Within a process a hint is a function call. Between processes on SQLite it is the file's data version, looked at
every 50 ms (7 microseconds a look). On Postgres it is a NOTIFY, sent by a thread of its own so that a database that
hangs costs no request anything; and as that may be lost too, everybody who listens looks for himself each second.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from django.conf import settings
from django.db import DatabaseError, connection

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger("retire_cluster.hints")

LOOK_S = 0.05  # SQLite: how soon another process's commit is noticed
TOGETHER_S = 0.005  # between two notifications: what is told meanwhile is one
NEWS_S = 0.02  # news wait for so long, to travel with what is urgent
BREAK_S = 5.0  # pause after a database that did not answer
LISTEN_S = 30.0  # how soon a dead connection is noticed
CHANNEL = "retire_cluster"
MOST_ENDED = 150  # ids in one notification, which holds 8000 bytes

WORK: Final = "work"  # tasks were queued or ended
INTENT: Final = "intent"  # somebody wants something of a device: a cancel, a new setting
NEWS: Final = "news"  # events were recorded
ENDED: Final = "ended"  # something that is waited for may have ended in another process
Hint = Literal["work", "intent", "news", "ended"]
Listener = Callable[[Hint], None]
EndListener = Callable[[list[uuid.UUID]], None]

_guard = threading.Lock()
_listeners: list[Listener] = []
_end_listeners: dict[str, EndListener] = {}


def subscribe(listener: Listener) -> Callable[[], None]:
    """Call the listener, from any thread, whenever there may be something new. Returns the way to stop it."""
    with _guard:
        _listeners.append(listener)
    if settings.WATCH_DATABASE:
        _watcher() if connection.vendor == "sqlite" else _ear()

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


def tell_ended(kind: str, ids: Iterable[uuid.UUID]) -> None:
    """Tell the other processes which rows of a kind have ended, so that who waits for one need not look."""
    if settings.WATCH_DATABASE and connection.vendor == "postgresql":
        _mouth().tell_ended(kind, ids)


def on_ended(kind: str, listener: EndListener) -> None:
    """Call the listener, from any thread, with rows of the kind that ended in another process. One a kind."""
    _end_listeners[kind] = listener


def _tell_here(hint: Hint) -> None:
    with _guard:
        listeners = list(_listeners)
    for listener in listeners:
        try:
            listener(hint)
        except Exception:
            logger.exception("a listener for hints failed", extra={"action": "hint"})


class _Watcher(threading.Thread):
    """On SQLite: notices what other processes committed and passes it on as hints."""

    def __init__(self) -> None:
        super().__init__(name="retire-cluster-watcher", daemon=True)

    def run(self) -> None:
        seen = -1
        while True:
            time.sleep(LOOK_S)
            try:
                version = self._data_version()
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
        self._ended: deque[tuple[str, str]] = deque()  # (kind, id)
        self._wake = threading.Event()
        self._urgent = threading.Event()  # somebody waits; for news nobody waits that long
        # Not one of the pool's connections: Celery closes its worker's pool after each job.
        self._own: psycopg.Connection[Any] | None = None

    def tell(self, hint: Hint) -> None:
        """Have the hint sent soon. Returns at once."""
        self._waiting.add(hint)
        if hint != NEWS:
            self._urgent.set()
        self._wake.set()

    def tell_ended(self, kind: str, ids: Iterable[uuid.UUID]) -> None:
        """The same for what has ended."""
        self._ended.extend((kind, row_id.hex) for row_id in ids)
        if self._ended:
            self._urgent.set()
            self._wake.set()

    def run(self) -> None:
        import psycopg

        while True:
            self._wake.wait()
            self._urgent.wait(NEWS_S)
            self._wake.clear()
            self._urgent.clear()
            try:
                self._send()
                time.sleep(TOGETHER_S)  # after the first of a kind, so that nobody waits for it alone
            except psycopg.Error as error:
                logger.warning("cannot tell other processes: %s", error, extra={"action": "hint"})
                self._own = None
                time.sleep(BREAK_S)

    def _send(self) -> None:
        import psycopg

        while self._waiting or self._ended:
            if self._own is None or self._own.closed:
                self._own = psycopg.connect(**connection.get_connection_params(), autocommit=True)
            told = [f"{kind}:{row_id}" for kind, row_id in self._some_ended()]
            hints = {*self._taken(), *([ENDED] if told else [])}
            self._own.execute(
                "SELECT pg_notify(%s, %s)", [CHANNEL, " ".join([_process, ",".join(sorted(hints)), *told])]
            )

    def _taken(self) -> list[Hint]:
        return [self._waiting.pop() for _ in range(len(self._waiting))]

    def _some_ended(self) -> list[tuple[str, str]]:
        return [self._ended.popleft() for _ in range(min(len(self._ended), MOST_ENDED))]


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
        from retire_cluster.postgres.connection import ListeningConnection

        # Not one of the pool's connections: it would never be given back.
        with ListeningConnection.connect(**connection.get_connection_params(), autocommit=True) as own:
            own.execute(f"LISTEN {CHANNEL}")
            while True:
                for notification in own.notifies(timeout=LISTEN_S):
                    _heard(notification.payload)
                own.execute("SELECT 1")  # fails on a connection that died without a word


def _heard(payload: str) -> None:
    try:
        sender, told, *ended = payload.split(" ")
        by_kind: dict[str, list[uuid.UUID]] = {}
        for item in ended:
            kind, _, row_id = item.partition(":")
            by_kind.setdefault(kind, []).append(uuid.UUID(row_id))
    except ValueError:
        logger.info("a notification that is not ours: %.100r", payload, extra={"action": "hint"})
        return
    if sender == _process:
        return
    for kind, ids in by_kind.items():
        if kind in _end_listeners:
            _end_listeners[kind](ids)
    for known in get_args(Hint):
        if known in told.split(",") and not (known == ENDED and ended):  # those were named
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
