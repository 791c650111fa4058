"""Many rows in one statement, the same on SQLite and Postgres.

For hot paths and backups: composing a statement and adapting its values takes Django's ORM ten times what running
it does. Values are Python's, columns are named by field. On Postgres each column travels as one binary array (a
thousand tasks in 27 ms; as one INSERT each it was 200). On SQLite it is one prepared statement, run for each row.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, Literal, TypeVar
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connection, connections, models
from django.db.models.base import ModelState

from retire_cluster import db
from retire_cluster.db import is_postgresql, is_sqlite

MAX_VALUES = 10_000  # in one statement; some builds of SQLite take 32,766

Lock = Literal["wait", "skip"]  # what to do about rows another transaction holds
Convert = Callable[[Any], Any]


def select_rows(
    model: type[models.Model],
    columns: tuple[str, ...],
    among: Mapping[str, Sequence[Any]],
    *,
    also: str = "",
    more: tuple[str, ...] = (),
    lock: Lock | Literal[""] = "",
    index: str = "",
) -> list[tuple[Any, ...]]:
    """Rows, by id, whose fields are among the given values, as tuples of Python values.

    `also` is a further condition in constant SQL; `more` are further columns, as in `select_where`; `lock` takes
    row locks on Postgres (on SQLite the transaction is the lock); `index` is the one SQLite is to use.
    """
    if not all(among.values()):
        return []
    name, values = max(among.items(), key=lambda item: len(item[1]))
    if len(values) > MAX_VALUES:
        ordered = sorted(values)  # so that locks are taken by id across the parts as well
        parts = (ordered[start : start + MAX_VALUES] for start in range(0, len(ordered), MAX_VALUES))
        found = [
            select_rows(model, columns, {**among, name: part}, also=also, more=more, lock=lock, index=index)
            for part in parts
        ]
        return [row for rows in found for row in rows]
    fields = tuple(among)
    conditions = [_is_among(model, field, len(among[field])) for field in fields]
    conditions += [also] if also else []
    flat: list[Any] = []
    for field in fields:
        array = _adapted(model, field, among[field])
        flat += [array] if is_postgresql() and len(array) > 1 else array
    return select_where(model, columns, " AND ".join(conditions), flat, more=more, lock=lock, index=index)


def select_where(
    model: type[models.Model],
    columns: tuple[str, ...],
    condition: str,
    values: Sequence[Any],
    *,
    more: tuple[str, ...] = (),
    lock: Lock | Literal[""] = "",
    index: str = "",
) -> list[tuple[Any, ...]]:
    """Rows, by id, for which a condition in constant SQL holds; `values` are for its marks.

    `more` are further columns: expressions in constant SQL, taken as the database returns them.
    """
    names, converters = _reader(model, columns)
    table = f"{_quoted(model._meta.db_table)} {indexed_by(index) if index else ''}"
    sql = f"SELECT {', '.join([names, *more])} FROM {table} WHERE {condition} ORDER BY id"  # noqa: S608 names come from the models
    if lock and is_postgresql():
        sql += " FOR NO KEY UPDATE" + (" SKIP LOCKED" if lock == "skip" else "")
    rows = ask(sql, values)
    return [_converted(row, converters) for row in rows] if converters else rows


def ask(sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """The rows of a statement as the database returns them."""
    own = connections[DEFAULT_DB_ALIAS]
    with own.wrap_database_errors:
        opened = _cursor(own)
        opened.execute(sql, values)
        rows: list[tuple[Any, ...]] = opened.fetchall()
        opened.close()
        return rows


class Encoded(str):
    """JSON that is text already, as a value of a JSON field."""


class Hits:
    """How many rows a statement met. Within `together` known only after it."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    @property
    def count(self) -> int:
        return int(self._cursor.rowcount)


@contextmanager
def together() -> Iterator[None]:
    """Have Postgres take the writes of the block one after the other without waiting for an answer to each.

    What one of them raises is raised at the end of the block.
    """
    own: Any = connection
    if is_postgresql():
        with own.wrap_database_errors, own.connection.pipeline():
            yield
    else:
        yield


def execute(sql: str, values: Sequence[Any]) -> Hits:
    """A statement that writes."""
    if _joining.parts is not None:
        _joining.parts.append((sql, values))
        return Hits(None)
    own = connections[DEFAULT_DB_ALIAS]
    with own.wrap_database_errors:
        opened = _cursor(own)  # left open: its answer may come later
        opened.execute(sql, values)
    return Hits(opened)


class _Joining(threading.local):
    """The writes of this thread that are to be one statement; None outside of `joined`."""

    parts: list[tuple[str, Sequence[Any]]] | None = None


_joining = _Joining()


@contextmanager
def joined() -> Iterator[None]:
    """Have Postgres take the writes of the block as one statement, at its end: one parse, one plan, one round trip.

    For writes that do not build on each other: all see the tables as they were. How many rows each met is not told.
    """
    if is_sqlite() or _joining.parts is not None:
        yield
        return
    parts = _joining.parts = []
    try:
        yield
    finally:
        _joining.parts = None
    if parts:
        *first, last = [sql for sql, _ in parts]
        names = ", ".join(f"part_{number} AS ({sql})" for number, sql in enumerate(first))
        execute(f"WITH {names} {last}" if names else last, [value for _, values in parts for value in values])


@contextmanager
def one_write() -> Iterator[None]:
    """A write transaction of inserts alone, events among them.

    On Postgres it is one statement, which needs no BEGIN and no COMMIT around it. What is read in the block, or
    written by the ORM, is not part of it there.
    """
    if is_sqlite():
        with db.write_transaction():
            yield
    else:
        with db.telling_after(), joined(), db.handing_in():
            yield


Row = TypeVar("Row", bound=models.Model)


def fetch(model: type[Row], among: Mapping[str, Sequence[Any]]) -> list[Row]:
    """The same as whole rows, as a queryset would return them."""
    names = _every_column(model)
    rows = select_rows(model, names, among)
    return [instance(model, dict(zip(names, row, strict=True))) for row in rows]


def instance(model: type[Row], columns: Mapping[str, Any]) -> Row:
    """An object of every column's value, as if read. `from_db` takes five times as long: a sixth of a batch."""
    made = model.__new__(model)
    made.__dict__.update(columns)
    made._state = ModelState()
    made._state.adding, made._state.db = False, DEFAULT_DB_ALIAS
    return made


def insert_rows(model: type[models.Model], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert the rows in one call."""
    _insert(model, columns, rows)


def store_rows(
    model: type[models.Model], columns: Sequence[str], changed: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert the rows in one call. One whose first column is there already sets its `changed` ones instead."""
    sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in _columns(model, tuple(changed)))
    _insert(model, columns, rows, f" ON CONFLICT ({_names(model, (columns[0],))}) DO UPDATE SET {sets}")


def _insert(
    model: type[models.Model], columns: Sequence[str], rows: Sequence[Sequence[Any]], otherwise: str = ""
) -> None:
    if not rows:
        return
    names = _names(model, tuple(columns))
    table = _quoted(model._meta.db_table)
    if len(rows) == 1:
        marks = ", ".join(["%s"] * len(columns))
        sql = f"INSERT INTO {table} ({names}) VALUES ({marks}){otherwise}"  # noqa: S608 names come from the models
        execute(sql, _adapted_row(model, tuple(columns), rows[0]))
        return
    by_column = _by_column(model, columns, rows)
    if is_postgresql():
        source = f"SELECT * FROM unnest({_arrays(model, tuple(columns))})"  # noqa: S608 names come from the models
        execute(f"INSERT INTO {table} ({names}) {source}{otherwise}", by_column)
        return
    marks = ", ".join(["%s"] * len(columns))
    _run(f"INSERT INTO {table} ({names}) VALUES ({marks}){otherwise}", by_column)  # noqa: S608 names come from the models


def update_rows(
    model: type[models.Model],
    changed: Sequence[str],
    guarded: Sequence[str],
    rows: Sequence[tuple[Sequence[Any], Sequence[Any]]],
) -> Hits:
    """Conditional updates in one call: each of at least one row is (values of `changed`, values of `guarded`)."""
    columns = (*changed, *guarded)
    table = _quoted(model._meta.db_table)
    if len(rows) == 1:
        new, old = rows[0]
        values = _adapted_row(model, columns, (*new, *old))
        return execute(_update_one(model, tuple(changed), tuple(guarded)), values)
    by_column = _by_column(model, columns, [(*new, *old) for new, old in rows])
    if is_postgresql():
        new, old = (tuple(_columns(model, names)) for names in (tuple(changed), tuple(guarded)))
        sets = ", ".join(f"{name} = given.new_{number}" for number, name in enumerate(new))
        condition = " AND ".join(f"kept.{name} = given.old_{number}" for number, name in enumerate(old))
        aliases = [f"new_{number}" for number in range(len(new))] + [
            f"old_{number}" for number in range(len(old))
        ]
        given = f"unnest({_arrays(model, columns)}) AS given({', '.join(aliases)})"
        return execute(f"UPDATE {table} AS kept SET {sets} FROM {given} WHERE {condition}", by_column)  # noqa: S608 names come from the models
    return _run(_update_one(model, tuple(changed), tuple(guarded)), by_column)


@cache
def _update_one(model: type[models.Model], changed: tuple[str, ...], guarded: tuple[str, ...]) -> str:
    assignments = ", ".join(f"{name} = %s" for name in _columns(model, changed))
    condition = " AND ".join(f"{name} = %s" for name in _columns(model, guarded))
    return f"UPDATE {_quoted(model._meta.db_table)} SET {assignments} WHERE {condition}"  # noqa: S608 names come from the models


def _run(sql: str, by_column: list[list[Any]]) -> Hits:
    """On SQLite: the statement for each row."""
    opened = connection.cursor()
    opened.executemany(sql, list(zip(*by_column, strict=True)))
    return Hits(opened)


def indexed_by(name: str) -> str:
    """Names the index SQLite is to use after a table's name; Postgres knows the rows and chooses by itself."""
    return f"INDEXED BY {name}" if is_sqlite() else ""


def _cursor(own: Any) -> Any:
    """One without Django's wrapper, which takes as long as the statement: its errors are for the caller to wrap.

    On Postgres its values travel beside the statement, not in it.
    """
    if is_postgresql():
        return own.binding_cursor()
    own.ensure_connection()
    return own.cursor() if own.queries_logged or own.execute_wrappers else own.create_cursor()


# --- names ----------------------------------------------------------------------------------------------------


@cache
def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)


@cache
def _field(model: type[models.Model], name: str) -> Any:
    return model._meta.get_field(name)


@cache
def _every_column(model: type[models.Model]) -> tuple[str, ...]:
    return tuple(field.attname for field in model._meta.concrete_fields)


@cache
def _columns(model: type[models.Model], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_quoted(_field(model, name).column) for name in names)


@cache
def _names(model: type[models.Model], names: tuple[str, ...]) -> str:
    return ", ".join(_columns(model, names))


@cache
def _arrays(model: type[models.Model], names: tuple[str, ...]) -> str:
    """A mark for each column's array, with its type."""
    return ", ".join(f"%b::{_array_type(_field(model, name))}" for name in names)


def _array_type(field: Any) -> str:
    # Without its length: a cast to varchar(9) would cut what is too long, where it should fail.
    return f"{field.db_type(connection).partition('(')[0]}[]"


def _is_among(model: type[models.Model], name: str, count: int) -> str:
    column = _names(model, (name,))
    if count == 1:
        return f"{column} = %s"
    if is_postgresql():
        return f"{column} = ANY(%b::{_array_type(_field(model, name))})"
    return f"{column} IN ({', '.join(['%s'] * count)})"


# --- values ---------------------------------------------------------------------------------------------------


def _by_column(
    model: type[models.Model], columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[list[Any]]:
    return [
        _adapted(model, name, values) for name, values in zip(columns, zip(*rows, strict=True), strict=True)
    ]


def _adapted_row(model: type[models.Model], columns: tuple[str, ...], row: Sequence[Any]) -> list[Any]:
    """The same for a row alone."""
    return [
        value if adapt is None or value is None else adapt(value)
        for adapt, value in zip(_adapters(model, columns), row, strict=True)
    ]


@cache
def _adapters(model: type[models.Model], columns: tuple[str, ...]) -> tuple[Convert | None, ...]:
    return tuple(_adapter(model, name) for name in columns)


def _adapted(model: type[models.Model], name: str, values: Sequence[Any]) -> list[Any]:
    adapt = _adapter(model, name)
    if adapt is None:
        return list(values)
    # Each object once: the rows of a batch share their time, and what they say nothing about.
    adapted = {id(value): value for value in values}
    for key, value in adapted.items():
        if value is not None:
            adapted[key] = adapt(value)
    return [adapted[id(value)] for value in values]


@cache
def _adapter(model: type[models.Model], name: str) -> Convert | None:
    """What makes a database's value of the field's; None where it is the same."""
    field = _field(model, name)
    target = field.target_field if field.is_relation else field
    if isinstance(target, models.JSONField):
        encoder = target.encoder
        return lambda value: value if isinstance(value, Encoded) else json.dumps(value, cls=encoder)
    if isinstance(target, (models.CharField, models.TextField)):
        return str.__str__  # of an enumeration its word
    if isinstance(target, (models.IntegerField, models.FloatField, models.BooleanField)):
        return None
    if isinstance(target, (models.DateTimeField, models.UUIDField)) and is_postgresql():
        return None
    if isinstance(target, models.DateTimeField):
        return _sqlite_time
    if isinstance(target, models.UUIDField):
        return _hex
    return lambda value: field.get_db_prep_save(value, connection)


@lru_cache(maxsize=64)  # the rows of a batch share their moment
def _sqlite_time(moment: datetime) -> str:
    """As Django stores it: UTC without saying so."""
    return moment.astimezone(UTC).isoformat(" ")[:-6]


def _hex(value: UUID) -> str:
    return value.hex


@cache
def _reader(model: type[models.Model], columns: tuple[str, ...]) -> tuple[str, dict[int, Convert]]:
    """The select list, and what makes Python values of the columns that need it."""
    converters = {}
    for index, name in enumerate(columns):
        convert = _converter(model, name)
        if convert:
            converters[index] = convert
    return _names(model, columns), converters


def _converter(model: type[models.Model], name: str) -> Convert | None:
    field = _field(model, name)
    target = field.target_field if field.is_relation else field
    if is_sqlite() and isinstance(target, models.DateTimeField):
        return _python_time
    if is_sqlite() and isinstance(target, models.UUIDField):
        return UUID
    source = field.get_col(model._meta.db_table)
    steps = [*connection.ops.get_db_converters(source), *source.get_db_converters(connection)]
    return _chain(steps, source) if steps else None


def _python_time(naive: datetime) -> datetime:
    return naive.replace(tzinfo=UTC)


def _chain(steps: Sequence[Callable[[Any, Any, Any], Any]], source: Any) -> Convert:
    def convert(value: Any) -> Any:
        for step in steps:
            value = step(value, source, connection)
        return value

    return convert


def _converted(row: Sequence[Any], converters: Mapping[int, Convert]) -> tuple[Any, ...]:
    values = list(row)
    for index, convert in converters.items():
        if values[index] is not None:
            values[index] = convert(values[index])
    return tuple(values)
