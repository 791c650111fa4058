"""The database's write side: one transaction helper and two batch statements, the same on SQLite and Postgres."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

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
    """A transaction that will write. On SQLite it first queues for the process's only writer's turn."""
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        with transaction.atomic():
            yield
        return
    _sqlite_writer.acquire()
    try:
        with transaction.atomic():
            yield
    finally:
        _sqlite_writer.release()


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
