"""Waiting for a task to end: register before the insert commits, then nobody can be told too early.

The gateway's committer names finished tasks within its own process. For those finished elsewhere, a hint makes
this process ask the database once for all that wait, and once a second as a net.
"""

import asyncio
import logging
import threading
from collections.abc import Iterable
from functools import cache
from types import TracebackType
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection

from retire_cluster import hints
from retire_cluster.protocol.states import TERMINAL
from tasks.models import Task

logger = logging.getLogger("retire_cluster.waiting")

NET_S = 1.0  # a lost hint costs at most this much

_guard = threading.Lock()
_waiters: dict[UUID, set["Waiter"]] = {}


class Waiter:
    """One caller's interest in the end of one task. A context manager; leaving it ends the interest."""

    def __init__(self, task_id: UUID) -> None:
        self.task_id = task_id
        self._event = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._future: asyncio.Future[None] | None = None

    def __enter__(self) -> "Waiter":
        with _guard:
            _waiters.setdefault(self.task_id, set()).add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the interest; may be called twice."""
        with _guard:
            same = _waiters.get(self.task_id)
            if same is not None:
                same.discard(self)
                if not same:
                    del _waiters[self.task_id]

    def wait(self, seconds: float) -> bool:
        """Block this thread until the task is terminal or time is up."""
        return self._event.wait(seconds)

    async def wait_async(self, seconds: float) -> bool:
        """The same in an event loop, holding no thread."""
        with _guard:
            if self._event.is_set():
                return True
            self._loop = asyncio.get_running_loop()
            self._future = self._loop.create_future()
        try:
            await asyncio.wait_for(self._future, seconds)
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        self._event.set()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


def register(task_id: UUID) -> Waiter:
    """A waiter for the task; use it as a context manager."""
    if settings.WATCH_DATABASE:
        _net()
    return Waiter(task_id)


def ended(task_ids: Iterable[UUID]) -> None:
    """Tell whoever waits for these tasks, from any thread."""
    with _guard:
        for task_id in task_ids:
            for waiter in _waiters.get(task_id, ()):
                waiter._wake()


def waiting_for() -> list[UUID]:
    """The tasks somebody in this process waits for."""
    with _guard:
        return list(_waiters)


def release_all() -> None:
    """The process stops: whoever waits gets an answer with the state as it is."""
    ended(waiting_for())


class _Net(threading.Thread):
    """Asks the database about tasks waited for, on hints and once a second; idle while nobody waits."""

    def __init__(self) -> None:
        super().__init__(name="retire-cluster-waiters", daemon=True)
        self._hint = threading.Event()
        hints.subscribe(lambda _: self._hint.set())

    def run(self) -> None:
        while True:
            self._hint.wait(NET_S)
            self._hint.clear()
            wanted = waiting_for()
            if wanted:
                self._ask(wanted)

    def _ask(self, wanted: list[UUID]) -> None:
        try:
            ended(Task.objects.filter(id__in=wanted, status__in=TERMINAL).values_list("id", flat=True))
        except DatabaseError as error:  # away for the moment: the next look asks again
            logger.warning("cannot look for finished tasks: %s", error, extra={"action": "wait"})
            connection.close()


@cache
def _net() -> _Net:
    """The process's net, started when somebody waits for the first time."""
    net = _Net()
    net.start()
    return net
