"""A connection that gives up on a server that does not answer."""

import selectors
from typing import Any

import psycopg
from psycopg import errors

from retire_cluster.postgres import waits

CONNECT_S = 3  # to be connected; whole seconds, as libpq counts
LOOK_S = 0.1  # between looks for a Ctrl-C, as psycopg does
LISTEN_S = 30.0  # between those of a thread that gets none
# Epoll takes four system calls for one look.
_Look = getattr(selectors, "PollSelector", selectors.DefaultSelector)
SATURATED = ("too many clients", "connection slots")  # in the words of a server that is there, but full


class Connection(psycopg.Connection[Any]):
    """psycopg's, with the limit of `waits` on every answer. What waited too long is closed."""

    def wait(self, gen: Any, interval: float = LOOK_S, timeout: float | None = None) -> Any:
        limit = waits.limited_to()
        if limit is None or timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, limit)
        except errors._WaitTimeout:
            self.close()  # the answer may still come, and would be taken for that to another question
            waits.tell_late()
            raise psycopg.OperationalError(f"PostgreSQL did not answer within {limit:g} s") from None


class ListeningConnection(Connection):
    """For a thread that waits for notifications. Not the main one: it looks for no Ctrl-C."""

    def wait(self, gen: Any, interval: float = LISTEN_S, timeout: float | None = None) -> Any:
        return super().wait(gen, interval, timeout)


def lives(connection: "psycopg.Connection[Any]") -> bool:
    """Whether one that lay in the pool can still be used. Costs a round trip only where the server said something.

    A server says nothing to a connection that rests, except that it ends.
    """
    try:
        with _Look() as look:
            look.register(connection.pgconn.socket, selectors.EVENT_READ)
            if not look.select(timeout=0):
                return True
        with waits.at_most(CONNECT_S):
            connection.execute("")
    except (psycopg.OperationalError, OSError):
        connection.close()
        return False
    return True


def ask(params: dict[str, Any]) -> str:
    """Whether a server answers at all: "", or why it does not."""
    try:
        with waits.at_most(CONNECT_S), Connection.connect(**params, autocommit=True) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        words = " ".join(str(error).split())
        return "" if any(word in words for word in SATURATED) else words or type(error).__name__
    return ""
