"""What a handler is given beside its payload: its attempt, its limits, and where to put more than a result."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retire_cluster.agent.execution.feed import Feed
from retire_cluster.agent.ledger import KillReason
from retire_cluster.protocol.states import Stream

NOTHING: Any = object()


class TaskError(Exception):
    """The task ended badly for a reason to be told in one sentence; `trace` may show its author where.

    `result` is what there is to keep although it failed, such as the output of a command.
    """

    def __init__(self, message: str, trace: str | None = None, result: Any = NOTHING) -> None:
        super().__init__(message)
        self.trace = trace
        self.result = result


class PayloadError(TaskError):
    """The payload does not fit the task type; names the field and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"payload.{field}: {reason}")


class Work:
    """One attempt, as its handler sees it. Ending it cancels the handler's call."""

    def __init__(
        self, attempt: str, task: str, started: float, timeout_s: float, base: Path, feed: Feed
    ) -> None:
        self.attempt = attempt
        self.task = task
        self.started = started  # on the executor's clock
        self.timeout_s = timeout_s
        self.kill_reason: KillReason | None = None
        self.survivors: tuple[str, ...] = ()  # processes that could not be ended
        self.hurry: Callable[[], None] = _nothing  # called when an ending work has no time left
        self._base = base
        self._feed = feed
        self._directory: Path | None = None

    def limit_time(self, seconds: float | None) -> None:
        """The payload's own timeout: the shorter one counts."""
        self.timeout_s = self.timeout_s if seconds is None else min(self.timeout_s, seconds)

    def show(self, stream: Stream, data: bytes) -> None:
        """Let whoever watches see what it prints."""
        self._feed.write(self.attempt, stream, data)

    def tell_progress(self, percent: float | None, message: str) -> None:
        """Let whoever watches see how far it is; percent 0 to 100, None for unknown."""
        self._feed.progress(self.attempt, percent, message)

    async def directory(self) -> Path:
        """A directory of its own, removed after the end. Raises TaskError when the disk is full."""
        if self._directory is None:
            path = self._base / self.attempt
            try:
                await asyncio.to_thread(path.mkdir, mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise TaskError(
                    f"cannot make a directory for the task on this device: {error.strerror}"
                ) from None
            self._directory = path
        return self._directory

    @property
    def leftover(self) -> Path | None:
        """The directory, if there is one to remove."""
        return self._directory


def _nothing() -> None:
    """There is nothing to hurry."""
