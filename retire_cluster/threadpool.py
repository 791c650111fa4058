"""A small pool of persistent threads for one event loop's blocking work.

The threads live as long as the process, so each keeps its database connection. They are daemons: a query that
hangs must not keep a process alive that was told to stop.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class ThreadPool:
    """`size` threads, started at the first job."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._start = threading.Lock()
        self._started = False

    async def run(self, function: Callable[[], T]) -> T:
        """Run the function in a pool thread. It runs to its end even when the caller is cancelled."""
        self._ensure_started()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((loop, future, function))
        return await future

    def _ensure_started(self) -> None:
        with self._start:
            if self._started:
                return
            self._started = True
            for index in range(self._size):
                threading.Thread(target=self._work, name=f"{self._name}-{index}", daemon=True).start()

    def _work(self) -> None:
        while True:
            loop, future, function = self._jobs.get()
            try:
                result, error = function(), None
            except BaseException as caught:  # delivered to the waiting coroutine, whatever it is
                result, error = None, caught
            with contextlib.suppress(
                RuntimeError
            ):  # the loop is closed: nobody waits for the answer any more
                loop.call_soon_threadsafe(_deliver, future, result, error)
            del future, function, result, error  # a waiting thread must not keep the last answer alive


def _deliver(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
