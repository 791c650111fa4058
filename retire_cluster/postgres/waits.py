"""How long this process waits for an answer of PostgreSQL.

Only processes that serve set a limit: a migration, a backup or a restore may take as long as it takes. The limit is
kept on this side, because a server that hangs keeps none of its own.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LIMIT_S = 10.0  # for one statement; below the 30 s after which gunicorn ends a worker

_process_limit: float | None = None
_thread = threading.local()
_late: list[Callable[[], None]] = []


def limit() -> None:
    """This process serves: from now on no statement is waited for longer than LIMIT_S."""
    global _process_limit
    _process_limit = LIMIT_S


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """In this thread, until the end of the block, wait no longer than this."""
    before: float | None = getattr(_thread, "limit", None)
    _thread.limit = seconds
    try:
        yield
    finally:
        _thread.limit = before


def limited_to() -> float | None:
    """Seconds this thread may wait; None: as long as it takes."""
    own: float | None = getattr(_thread, "limit", None)
    return _process_limit if own is None else own


def when_late(told: Callable[[], None]) -> None:
    """Call this when a statement was waited for in vain for as long as this process waits."""
    _late.append(told)


def tell_late() -> None:
    """A wait was in vain. Of threads with limits of their own nobody is told: they draw their own conclusions."""
    if getattr(_thread, "limit", None) is None:
        for told in _late:
            told()
