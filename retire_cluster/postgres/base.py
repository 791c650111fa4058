"""The backend Django loads: its own for PostgreSQL, which refuses at once while the server is known to be away."""

from typing import Any

import psycopg
from django.db.backends.postgresql import base
from psycopg_pool import PoolClosed

from retire_cluster.postgres import connection, waits
from retire_cluster.postgres.outage import Outage

MOST_TRIES = 50  # more than a pool holds
_BY_KEYS = "; ".join(
    f"SET {name} = {value}"
    for name, value in {
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "enable_sort": "off",  # the first of a queue come from its index, in order
        "plan_cache_mode": "force_generic_plan",
    }.items()
)

_params: dict[str, Any] = {}  # of the newest connection: how to ask the server


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection of Django's."""

    def __init__(self, settings_dict: dict[str, Any], *args: Any, **more: Any) -> None:
        super().__init__(settings_dict, *args, **more)
        pool = settings_dict["OPTIONS"].get("pool")
        if pool:
            pool.setdefault("connection_class", connection.Connection)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A living one. Those that died in the pool are left out, so that a restart costs no request anything.

        The pool can check too, but pauses for a second and more after each dead connection it meets.
        """
        _params.update(conn_params)
        for _ in range(MOST_TRIES):
            _refuse_while_away()
            try:
                found = super().get_new_connection(conn_params)
            except PoolClosed:
                continue  # by _renew_pool: there is a new one
            except psycopg.OperationalError:
                outage.suspect()
                _refuse_while_away()  # its reason says more than the pool's
                raise
            if self.pool is None or connection.lives(found):
                return found
            found._pool.putconn(found)  # which sees that it is closed
            outage.suspect()
        raise psycopg.OperationalError("every connection to PostgreSQL is cut off at once")

    def keep_plans(self) -> None:
        """Prepare what binding cursors execute on the connection of now, each statement once."""
        own: Any = self
        own.ensure_connection()
        if own.connection.prepare_threshold is None and not own.in_atomic_block:
            with own.wrap_database_errors:
                own.connection.execute(_BY_KEYS)
            own.connection.prepare_threshold = 0

    def binding_cursor(self) -> Any:
        """A cursor whose values travel beside the statement, in binary where a mark asks for it.

        psycopg's own, so its errors are for the caller to wrap: Django's wrapper takes longer than the statement.
        """
        own: Any = self  # the stubs know neither
        cursor: Any = base.ServerBindingCursor
        own.ensure_connection()
        made = cursor(own.connection)
        is_watched = own.queries_logged or own.execute_wrappers
        return own._prepare_cursor(made) if is_watched else made


def _refuse_while_away() -> None:
    if outage.reason:
        raise psycopg.OperationalError(f"PostgreSQL is away: {outage.reason}")


def _renew_pool() -> None:
    """Its connections are dead, and its own tries may be seconds apart by now."""
    pool = DatabaseWrapper._connection_pools.pop("default", None)  # type: ignore[attr-defined]  # not in the stubs
    if pool is not None:
        pool.close(timeout=0)


outage = Outage(lambda: connection.ask(_params), _renew_pool)
waits.when_late(outage.suspect)
