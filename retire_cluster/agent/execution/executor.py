"""Runs attempts as asyncio tasks, each with a deadline, and reports how each ended."""

import asyncio
import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from retire_cluster.agent.execution.feed import Feed
from retire_cluster.agent.execution.handlers import Handler
from retire_cluster.agent.execution.work import NOTHING, PayloadError, TaskError, Work
from retire_cluster.agent.ledger import KillReason
from retire_cluster.agent.metrics import boot_clock
from retire_cluster.protocol import jsontext
from retire_cluster.protocol.messages import MAX_RESULT_BYTES, Assign, Result
from retire_cluster.protocol.states import Outcome
from retire_cluster.protocol.tasktypes import problems

MAX_MESSAGE = 4096
MAX_TRACEBACK = 16_384
# The loop's clock stands still while the machine is suspended, so a deadline is looked at this often.
_LOOK_EVERY_S = 1.0

_Failure = Literal[Outcome.FAILED, Outcome.TIMEOUT, Outcome.CANCELLED]


@dataclass(slots=True)
class _Run:
    """One attempt at work."""

    work: Work
    task: asyncio.Task[str]
    look: asyncio.TimerHandle | None = None


class Executor:
    """Starts and kills attempts; `report` gets one Result for each, `stopped` the id of each that was stopped."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        report: Callable[[Result], None],
        stopped: Callable[[str], None],
        directory: Path,
        feed: Feed,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        """`directory` is where tasks get directories of their own; `feed` takes what they print."""
        self._handlers = handlers
        self._report = report
        self._stopped = stopped
        self._directory = directory
        self._feed = feed
        self._clock = clock
        self._runs: dict[str, _Run] = {}
        self._tidying: set[asyncio.Task[None]] = set()

    def start(self, assign: Assign) -> None:
        """Begin the attempt's work, to be ended after its timeout."""
        work = Work(assign.attempt, assign.task, self._clock(), assign.timeout_s, self._directory, self._feed)
        run = _Run(work, asyncio.get_running_loop().create_task(self._work(assign, work)))
        self._runs[assign.attempt] = run
        run.task.add_done_callback(lambda _: self._ended(run))
        self._look(run)

    def kill(self, attempt: str, reason: KillReason) -> None:
        """End the attempt's work; nothing if it is over. The first reason counts, but `stop` beats any."""
        run = self._runs.get(attempt)
        if run is None or run.task.done():
            return
        is_first = run.work.kill_reason is None
        if is_first or reason == "stop":
            run.work.kill_reason = reason
        if is_first:
            run.task.cancel()
        elif reason == "stop":
            run.work.hurry()

    async def close(self) -> None:
        """End everything."""
        runs = list(self._runs.values())
        for run in runs:
            self.kill(run.work.attempt, "stop")
        await asyncio.gather(*(run.task for run in runs), return_exceptions=True)
        await asyncio.gather(*self._tidying)

    async def _work(self, assign: Assign, work: Work) -> str:
        """The result's JSON text."""
        handler = self._handlers.get(assign.task_type)
        if handler is None:
            raise TaskError(f"this device does not run {assign.task_type!r}")
        payload = _payload(assign.payload_json)
        for field, reason in problems(assign.task_type, payload):
            raise PayloadError(field, reason)
        text = jsontext.dumps_lossy(await handler(payload, work))
        size = len(text.encode())
        if size > MAX_RESULT_BYTES:
            raise TaskError(f"the result has {size} bytes; the limit is {MAX_RESULT_BYTES}")
        return text

    def _look(self, run: _Run) -> None:
        """Kill the run if its time is up, else look again then, or in a second."""
        left = run.work.started + run.work.timeout_s - self._clock()
        if left <= 0:
            self.kill(run.work.attempt, "timeout")
            return
        loop = asyncio.get_running_loop()
        run.look = loop.call_later(min(left, _LOOK_EVERY_S), self._look, run)

    def _ended(self, run: _Run) -> None:
        del self._runs[run.work.attempt]
        if run.look is not None:
            run.look.cancel()
        if run.work.leftover is not None:
            tidying = asyncio.ensure_future(_remove(run.work.leftover))
            self._tidying.add(tidying)
            tidying.add_done_callback(self._tidying.discard)
        if run.work.kill_reason == "stop":
            self._stopped(run.work.attempt)
        else:
            self._report(_result(run.work, run.task, self._clock() - run.work.started))


async def _remove(directory: Path) -> None:
    """A task may leave a large tree: a thread removes it."""
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _payload(text: str) -> dict[str, Any]:
    try:
        payload = jsontext.loads(text)
    except jsontext.UnstorableJSON as error:
        raise TaskError(f"payload: not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise TaskError("payload: must be an object")
    return payload


def _result(work: Work, task: "asyncio.Task[str]", ran_s: float) -> Result:
    """A success that came before the kill stays one; any other end of a killed run is the kill's."""
    ran_s = max(0.0, ran_s)
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is None:
        return Result(
            attempt=work.attempt,
            outcome=Outcome.SUCCESS,
            ran_s=ran_s,
            result_json=task.result(),
            survivors=work.survivors,
        )
    outcome, message = _verdict(work, error)
    return Result(
        attempt=work.attempt,
        outcome=outcome,
        ran_s=ran_s,
        result_json=_kept(error),
        error_message=_storable(message, MAX_MESSAGE),
        error_traceback=_trace(error) if outcome is Outcome.FAILED else None,
        survivors=work.survivors,
    )


def _verdict(work: Work, error: BaseException) -> tuple[_Failure, str]:
    if work.kill_reason == "timeout":
        return Outcome.TIMEOUT, f"ran longer than its timeout of {work.timeout_s:g} s"
    if work.kill_reason is not None:
        return Outcome.CANCELLED, "cancelled while running"
    if isinstance(error, TaskError):
        return Outcome.FAILED, str(error)
    return Outcome.FAILED, f"{type(error).__name__}: {error}"


def _kept(error: BaseException) -> str | None:
    """The JSON text of what a failed task leaves to look at, if that is not too much."""
    kept = getattr(error, "result", NOTHING)
    if kept is NOTHING:
        return None
    text = jsontext.dumps_lossy(kept)
    return text if len(text.encode()) <= MAX_RESULT_BYTES else None


def _trace(error: BaseException) -> str | None:
    """The traceback's end, where the cause is. None for failures that explain themselves."""
    if isinstance(error, TaskError):
        return None if error.trace is None else _storable(error.trace[-MAX_TRACEBACK:], MAX_TRACEBACK)
    if isinstance(error, asyncio.CancelledError):
        return None
    lines = "".join(traceback.format_exception(error))
    return _storable(lines[-MAX_TRACEBACK:], MAX_TRACEBACK)


def _storable(text: str, limit: int) -> str:
    """The text as JSON can carry it, cut to the limit in characters."""
    cleaned: str = jsontext.loads(jsontext.dumps_lossy(text[:limit]))
    return cleaned[:limit]  # a replaced character may have become several
