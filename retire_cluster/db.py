"""The database's write side: one transaction helper and two batch statements, the same on SQLite and Postgres."""

import atexit
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal

from django.db import connection, models, transaction
from django.utils import timezone


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
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        with transaction.atomic(), _handing_in():
            yield
        return
    _sqlite_writer.acquire()
    try:
        with transaction.atomic(), _handing_in():
            yield
    finally:
        _sqlite_writer.release()


Sink = Callable[[list[Any]], None]


class _Handed(threading.local):
    """What this thread's write transaction has to store at its end; None outside of one."""

    items: list[tuple[Sink, Any]] | None = None


_handed = _Handed()


def at_the_end(sink: Sink, item: Any) -> None:
    """Store the item in the last moment of the running write transaction, together with all others for this sink.

    Outside of a write transaction it is stored at once.
    """
    if _handed.items is None:
        sink([item])
    else:
        _handed.items.append((sink, item))


@contextmanager
def _handing_in() -> Iterator[None]:
    outer = _handed.items
    mine: list[tuple[Sink, Any]] = []
    _handed.items = mine
    try:
        yield
    finally:
        _handed.items = outer
    # Not reached after an exception: what was undone leaves nothing to store.
    if outer is not None:
        outer.extend(mine)
        return
    by_sink: dict[Sink, list[Any]] = {}
    for sink, item in mine:
        by_sink.setdefault(sink, []).append(item)
    for sink, items in by_sink.items():
        sink(items)


def is_sqlite() -> bool:
    """Whether this is the database of the default shape."""
    return connection.vendor == "sqlite"


def now() -> datetime:
    """The database's clock: leases of several processes are judged by one clock (SQLite: the process's)."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            moment: datetime = cursor.fetchone()[0]
            return moment.astimezone(UTC)
    return timezone.now()


# SQLSTATE of a transaction that PostgreSQL ended because two waited for each other, and because one stood still.
_DEADLOCK, _STOOD_STILL = "40P01", "25P03"


Lock = Literal["wait", "skip"]  # what to do about rows another transaction holds


def is_deadlock(error: BaseException) -> bool:
    """Whether the database chose this transaction to end one; run again it finds the rows free."""
    return _sqlstate(error) == _DEADLOCK


def stood_still(error: BaseException) -> bool:
    """Whether the database ended the connection because this process was stopped amid a transaction."""
    return _sqlstate(error) == _STOOD_STILL


def _sqlstate(error: BaseException) -> str:
    return str(getattr(error.__cause__, "sqlstate", None) or "")


MAX_VALUES = 10_000  # in one statement; some builds of SQLite take 32,766


def select_rows(
    model: type[models.Model],
    columns: tuple[str, ...],
    among: Mapping[str, Sequence[Any]],
    *,
    also: str = "",
    lock: Lock | Literal[""] = "",
    index: str = "",
) -> list[tuple[Any, ...]]:
    """Rows, by id, whose fields are among the given values, as tuples of Python values.

    For the hot path only: composing such a statement takes Django ten times as long as running it. `also` is a
    further condition in constant SQL; `lock` takes row locks on Postgres (on SQLite the transaction is the lock);
    `index` is the one SQLite is to use.
    """
    if not all(among.values()):
        return []
    name, values = max(among.items(), key=lambda item: len(item[1]))
    if len(values) > MAX_VALUES:
        ordered = sorted(values)  # so that locks are taken by id across the parts as well
        parts = (ordered[start : start + MAX_VALUES] for start in range(0, len(ordered), MAX_VALUES))
        found = [
            select_rows(model, columns, {**among, name: part}, also=also, lock=lock, index=index)
            for part in parts
        ]
        return [row for rows in found for row in rows]
    names, converters = _reader(model, columns)
    fields = [(model._meta.get_field(name), values) for name, values in among.items()]
    quote = connection.ops.quote_name
    conditions = [
        f"{quote(_column(field))} IN ({', '.join(['%s'] * len(values))})" for field, values in fields
    ]
    conditions += [also] if also else []
    table = f"{quote(model._meta.db_table)} {indexed_by(index) if index else ''}"
    sql = f"SELECT {names} FROM {table} WHERE {' AND '.join(conditions)} ORDER BY id"  # noqa: S608 names come from the models
    if lock and connection.vendor == "postgresql":
        sql += " FOR NO KEY UPDATE" + (" SKIP LOCKED" if lock == "skip" else "")
    with connection.cursor() as cursor:
        cursor.execute(sql, [_adapt(field, value) for field, values in fields for value in values])
        rows = cursor.fetchall()
    return [_converted(row, converters) for row in rows] if converters else rows


def indexed_by(name: str) -> str:
    """Names the index SQLite is to use after a table's name; Postgres knows the rows and chooses by itself."""
    return f"INDEXED BY {name}" if connection.vendor == "sqlite" else ""


Convert = Callable[[Any], Any]


@cache
def _reader(model: type[models.Model], columns: tuple[str, ...]) -> tuple[str, dict[int, Convert]]:
    """The select list, and what makes Python values of the columns that need it."""
    names, converters = [], {}
    for index, name in enumerate(columns):
        field = model._meta.get_field(name)
        names.append(connection.ops.quote_name(_column(field)))
        source = field.get_col(model._meta.db_table)  # type: ignore[union-attr]
        steps = [*connection.ops.get_db_converters(source), *source.get_db_converters(connection)]
        if steps:
            converters[index] = _chain(steps, source)
    return ", ".join(names), converters


def _chain(steps: Sequence[Callable[[Any, Any, Any], Any]], source: Any) -> Convert:
    def convert(value: Any) -> Any:
        for step in steps:
            value = step(value, source, connection)
        return value

    return convert


def _converted(row: Sequence[Any], converters: Mapping[int, Convert]) -> tuple[Any, ...]:
    values = list(row)
    for index, convert in converters.items():
        values[index] = convert(values[index])
    return tuple(values)


def insert_rows(model: type[models.Model], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """One INSERT per row in one call; values in Python types, columns by field name."""
    if not rows:
        return
    fields = [model._meta.get_field(name) for name in columns]
    names = ", ".join(connection.ops.quote_name(_column(field)) for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    table = connection.ops.quote_name(model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608 names come from the models
            [[_adapt(field, value) for field, value in zip(fields, row, strict=True)] for row in rows],
        )


def update_rows(
    model: type[models.Model],
    changed: Sequence[str],
    guarded: Sequence[str],
    rows: Sequence[tuple[Sequence[Any], Sequence[Any]]],
) -> int:
    """Conditional updates in one call: each row is (values of `changed`, values of `guarded`); returns rows hit."""
    if not rows:
        return 0
    sets = [model._meta.get_field(name) for name in changed]
    guards = [model._meta.get_field(name) for name in guarded]
    quote = connection.ops.quote_name
    assignments = ", ".join(f"{quote(_column(field))} = %s" for field in sets)
    condition = " AND ".join(f"{quote(_column(field))} = %s" for field in guards)
    table = quote(model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {table} SET {assignments} WHERE {condition}",  # noqa: S608 names come from the models
            [
                [_adapt(field, value) for field, value in zip([*sets, *guards], [*new, *old], strict=True)]
                for new, old in rows
            ],
        )
        return int(cursor.rowcount)


def _column(field: Any) -> str:
    return str(field.column)


def _adapt(field: Any, value: Any) -> Any:
    return field.get_db_prep_save(value, connection)


def close_pool_at_exit() -> None:
    """Have the pool of connections end with the process: left to the interpreter, each of its threads costs 5 s."""
    if connection.vendor == "postgresql":
        atexit.register(_close_pool)


def _close_pool() -> None:
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # the stubs do not know it
