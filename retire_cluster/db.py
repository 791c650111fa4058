"""The database's write side: one transaction helper and its clock, the same on SQLite and Postgres."""

import atexit
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

FOLD_PATIENCE_S = 0.5  # a stop does not wait for who is reading


class FairLock:
    """A mutex that serves waiters in the order they came.

    SQLite's own busy handler sleeps and retries, so an unlucky thread starves; queueing here does not.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiters: deque[threading.Lock] = deque()
        self._taken = False

    def acquire(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            ticket = threading.Lock()
            ticket.acquire()
            self._waiters.append(ticket)
        ticket.acquire()

    def release(self) -> None:
        with self._guard:
            if self._waiters:
                self._waiters.popleft().release()
            else:
                self._taken = False


_sqlite_writer = FairLock()


@contextmanager
def write_transaction() -> Iterator[None]:
    """A transaction that will write. On SQLite it first queues for the process's only writer's turn.

    Inside of another one it is a savepoint: what fails in it is undone alone.
    """
    if not is_sqlite() or connection.in_atomic_block:
        with transaction.atomic(), handing_in():
            yield
        return
    _sqlite_writer.acquire()
    try:
        with transaction.atomic(), handing_in():
            yield
    finally:
        _sqlite_writer.release()


Sink = Callable[[list[Any]], None]


class _Running(threading.local):
    """Of this thread's write transaction: what it has to store at its end (None outside of one), and its clock.

    And whom to tell after it, where it is no transaction of Django's.
    """

    items: list[tuple[Sink, Any]] | None = None
    told_after: list[Callable[[], object]] | None = None
    clock: "Clock | None" = None


_running = _Running()


def at_the_end(sink: Sink, item: Any) -> None:
    """Store the item in the last moment of the running write transaction, together with all others for this sink.

    Outside of a write transaction it is stored at once.
    """
    if _running.items is None:
        sink([item])
    else:
        _running.items.append((sink, item))


@contextmanager
def handing_in() -> Iterator[None]:
    """Part of a write transaction: what is to be stored at its end is stored at the end of the block."""
    outer = _running.items
    mine: list[tuple[Sink, Any]] = []
    _running.items = mine
    try:
        try:
            yield
        finally:
            _running.items = outer
        # Not reached after an exception: what was undone leaves nothing to store.
        if outer is None:
            _store(mine)
        else:
            outer.extend(mine)
    finally:
        if outer is None:
            _running.clock = None


@contextmanager
def telling_after() -> Iterator[None]:
    """Around what is one statement and so a transaction by itself: `on_commit` waits for the end of the block."""
    calls: list[Callable[[], object]] = []
    _running.told_after = calls
    try:
        yield
    finally:
        _running.told_after = None
    for call in calls:
        transaction.on_commit(call)


def on_commit(call: Callable[[], object]) -> None:
    """Do this once what the running write transaction stores can be seen; at once outside of one."""
    if _running.told_after is None:
        transaction.on_commit(call)
    else:
        _running.told_after.append(call)


def _store(items: list[tuple[Sink, Any]]) -> None:
    by_sink: dict[Sink, list[Any]] = {}
    for sink, item in items:
        by_sink.setdefault(sink, []).append(item)
    for sink, for_sink in by_sink.items():
        sink(for_sink)


def keep_plans() -> None:
    """Have Postgres plan this thread's batch statements once. For a thread that keeps its connection.

    Outside of a transaction. Those statements look rows up by their keys, so no other plan is ever better: without
    this, one made while a table was small is kept when it has grown.
    """
    if is_postgresql():
        own: Any = connection
        own.keep_plans()


@cache  # asked some thirty times for each task
def is_sqlite() -> bool:
    """Whether this is the database of the default shape."""
    return connection.vendor == "sqlite"


def fold_log() -> None:
    """Write SQLite's log into its file, which then is the database alone. Never waits long, and raises nothing.

    On a connection of its own: where no other is open, the log and its index are gone when this one is closed.
    """
    if not is_sqlite():
        return
    file = Path(str(connection.settings_dict["NAME"])).absolute()
    with (
        suppress(
            sqlite3.Error
        ),  # another process uses it, or it is no file; nothing is lost with its log beside it
        closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=FOLD_PATIENCE_S)) as own,
    ):
        own.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@cache
def is_postgresql() -> bool:
    """Whether this is the database of several processes."""
    return connection.vendor == "postgresql"


class Clock:
    """The database's clock as it was read once, carried on by this process's: for a transaction, or a second."""

    def __init__(self, moment: datetime) -> None:
        self._moment, self._read_at = moment, time.monotonic()

    def now(self) -> datetime:
        return self._moment + self.age

    @property
    def age(self) -> timedelta:
        """How long ago it was read."""
        return timedelta(seconds=time.monotonic() - self._read_at)


def now() -> datetime:
    """The database's clock: leases of several processes are judged by one clock (SQLite: the process's).

    On Postgres a statement, within a write transaction one for all calls.
    """
    if not is_postgresql():
        return timezone.now()
    if _running.clock is not None:
        return _running.clock.now()
    own: Any = connection
    with own.wrap_database_errors, own.binding_cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0].astimezone(UTC)
    if _running.items is not None:
        _running.clock = Clock(moment)
    return moment


CARRIED = timedelta(seconds=1)
_carrying = threading.Lock()
_carried: Clock | None = None


def carried_now(*, afresh: bool = False) -> datetime:
    """The database's clock as this process read it up to a second ago, carried on: for what is asked often.

    Also for the rest of the running write transaction. `afresh` reads it in any case: this process's clock may have
    stood still while the machine slept. Within the process it never runs back by less than a second: an answer that
    came late must not put what was submitted later before what was submitted earlier.
    """
    global _carried
    if not is_postgresql() or _running.clock is not None:
        return now()
    known = _carried
    if afresh or known is None or known.age >= CARRIED:
        known = Clock(now())
        with _carrying:
            if _carried is not None and timedelta() < (before := _carried.now()) - known.now() < CARRIED:
                known = Clock(before)
            _carried = known
    if _running.items is not None:
        _running.clock = known
    return known.now()


# SQLSTATE of a transaction that PostgreSQL ended because two waited for each other, and because one stood still.
_DEADLOCK, _STOOD_STILL = "40P01", "25P03"


def is_deadlock(error: BaseException) -> bool:
    """Whether the database chose this transaction to end one; run again it finds the rows free."""
    return _sqlstate(error) == _DEADLOCK


def stood_still(error: BaseException) -> bool:
    """Whether the database ended the connection because this process was stopped amid a transaction."""
    return _sqlstate(error) == _STOOD_STILL


def _sqlstate(error: BaseException) -> str:
    return str(getattr(error.__cause__, "sqlstate", None) or "")


def close_pool_at_exit() -> None:
    """Have the pool of connections end with the process: left to the interpreter, each of its threads costs 5 s."""
    if is_postgresql():
        atexit.register(_close_pool)


def _close_pool() -> None:
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # the stubs do not know it
