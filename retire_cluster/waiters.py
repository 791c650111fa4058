"""Waiting for rows to reach their end: register before the row exists, then nobody can be told too early.

Whoever ends a row names it, on Postgres to all processes. On SQLite a hint makes the others ask the database once
for all that wait; so does everybody once a second, as a net.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection

from retire_cluster import hints

logger = logging.getLogger("retire_cluster.waiting")

NET_S = 1.0  # a lost hint costs at most this much
_registries: list["Waiters"] = []
_released = threading.Event()  # set once the process stops: from then on nobody waits


class Waiter:
    """One caller's interest in the end of one row. A context manager; leaving it ends the interest."""

    def __init__(self, registry: "Waiters", row_id: UUID) -> None:
        self.row_id = row_id
        self._registry = registry
        self._guard = threading.Lock()
        self._event = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._future: asyncio.Future[None] | None = None

    def __enter__(self) -> "Waiter":
        self._registry.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the interest; may be called twice."""
        self._registry.remove(self)

    def wait(self, seconds: float) -> bool:
        """Block this thread until the row has ended or time is up."""
        return self._event.wait(seconds)

    async def wait_async(self, seconds: float) -> bool:
        """The same in an event loop, holding no thread."""
        with self._guard:
            if self._event.is_set():
                return True
            self._loop = asyncio.get_running_loop()
            self._future = self._loop.create_future()
        try:
            await asyncio.wait_for(self._future, seconds)
        except TimeoutError:
            return False
        return True

    def wake(self) -> None:
        """The row has ended. Any thread."""
        with self._guard:
            self._event.set()
            loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class Waiters:
    """Everybody in this process who waits for rows of one kind.

    `find_ended` gets the ids waited for and returns those that have ended, in one query.
    """

    def __init__(self, name: str, find_ended: Callable[[Sequence[UUID]], Iterable[UUID]]) -> None:
        self._name = name
        self._find_ended = find_ended
        self._guard = threading.Lock()
        self._waiting: dict[UUID, set[Waiter]] = {}
        self._net: _Net | None = None
        _registries.append(self)

    def register(self, row_id: UUID) -> Waiter:
        """A waiter for the row; use it as a context manager."""
        if settings.WATCH_DATABASE:
            self._start_net()
        return Waiter(self, row_id)

    def ended(self, row_ids: Iterable[UUID]) -> None:
        """Tell whoever waits for these rows, here and in other processes. Any thread; after the commit."""
        ended = list(row_ids)
        self._wake(ended)
        hints.tell_ended(self._name, ended)

    def _wake(self, row_ids: Iterable[UUID]) -> None:
        with self._guard:
            told = [waiter for row_id in row_ids for waiter in self._waiting.get(row_id, ())]
        for waiter in told:
            waiter.wake()

    def waited_for(self) -> list[UUID]:
        """The rows somebody in this process waits for."""
        with self._guard:
            return list(self._waiting)

    def callers(self, row_id: UUID) -> int:
        """How many in this process wait for the row."""
        with self._guard:
            return len(self._waiting.get(row_id, ()))

    def look(self) -> None:
        """Ask the database about all that wait, and tell those whose row has ended."""
        wanted = self.waited_for()
        if wanted:
            self._wake(self._find_ended(wanted))

    def release(self) -> None:
        """Tell everybody, whether the row has ended or not."""
        self._wake(self.waited_for())

    def add(self, waiter: Waiter) -> None:
        with self._guard:
            self._waiting.setdefault(waiter.row_id, set()).add(waiter)
        if _released.is_set():  # looked at after adding: one that comes while all are released is told too
            waiter.wake()

    def remove(self, waiter: Waiter) -> None:
        with self._guard:
            same = self._waiting.get(waiter.row_id, set())
            same.discard(waiter)
            if not same:
                self._waiting.pop(waiter.row_id, None)

    def _start_net(self) -> None:
        with self._guard:
            if self._net is None:
                hints.on_ended(self._name, self._wake)
                self._net = _Net(self._name, self.look)
                self._net.start()


def release_all() -> None:
    """The process stops: whoever waits, or would wait from now on, gets an answer with the state as it is."""
    _released.set()
    for registry in _registries:
        registry.release()


class _Net(threading.Thread):
    """Looks on hints and once a second; costs nothing while nobody waits."""

    def __init__(self, name: str, look: Callable[[], None]) -> None:
        super().__init__(name=f"retire-cluster-{name}", daemon=True)
        self._look = look
        self._hint = threading.Event()
        hints.subscribe(self._hear)

    def _hear(self, hint: hints.Hint) -> None:
        if hint == hints.ENDED:
            self._hint.set()

    def run(self) -> None:
        while True:
            self._hint.wait(NET_S)
            self._hint.clear()
            try:
                self._look()
            except DatabaseError as error:  # away for the moment: the next look asks again
                logger.warning("cannot look for what ended: %s", error, extra={"action": "wait"})
                connection.close()
