"""Runs attempts as asyncio tasks, each with a deadline, and reports how each ended."""

import asyncio
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from retire_cluster.agent.handlers import Handler, PayloadError
from retire_cluster.agent.ledger import KillReason
from retire_cluster.agent.metrics import boot_clock
from retire_cluster.protocol import jsontext
from retire_cluster.protocol.messages import MAX_RESULT_BYTES, Assign, Result
from retire_cluster.protocol.states import Outcome

MAX_MESSAGE = 4096
MAX_TRACEBACK = 16_384
# The loop's clock stands still while the machine is suspended, so a deadline is looked at this often.
_LOOK_EVERY_S = 1.0

_Failure = Literal[Outcome.FAILED, Outcome.TIMEOUT, Outcome.CANCELLED]


class TaskError(Exception):
    """The task ended badly for a reason to be told in one sentence, without a traceback."""


@dataclass(slots=True)
class _Run:
    """One attempt at work."""

    attempt: str
    started: float
    timeout_s: float
    killed: KillReason | None = None
    work: asyncio.Task[str] | None = None
    look: asyncio.TimerHandle | None = None


class Executor:
    """Starts and kills attempts; `report` gets one Result for each that was not stopped."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        report: Callable[[Result], None],
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self._handlers = handlers
        self._report = report
        self._clock = clock
        self._runs: dict[str, _Run] = {}

    def start(self, assign: Assign) -> None:
        """Begin the attempt's work, to be ended after its timeout."""
        run = _Run(assign.attempt, self._clock(), assign.timeout_s)
        self._runs[assign.attempt] = run
        run.work = asyncio.get_running_loop().create_task(self._work(assign))
        run.work.add_done_callback(lambda work: self._ended(run, work))
        self._look(run)

    def kill(self, attempt: str, reason: KillReason) -> None:
        """End the attempt's work. A later kill changes the reason only if nothing is to be reported any more."""
        run = self._runs.get(attempt)
        if run is None or run.work is None:
            return
        if run.killed is None or reason == "stop":
            run.killed = reason
        run.work.cancel()

    async def close(self) -> None:
        """End everything, report nothing."""
        runs = list(self._runs.values())
        for run in runs:
            self.kill(run.attempt, "stop")
        await asyncio.gather(*(run.work for run in runs if run.work), return_exceptions=True)

    async def _work(self, assign: Assign) -> str:
        """The result's JSON text."""
        handler = self._handlers.get(assign.task_type)
        if handler is None:
            raise TaskError(f"this device does not run {assign.task_type!r}")
        text = jsontext.dumps_lossy(await handler(_payload(assign.payload_json)))
        size = len(text.encode())
        if size > MAX_RESULT_BYTES:
            raise TaskError(f"the result has {size} bytes; the limit is {MAX_RESULT_BYTES}")
        return text

    def _look(self, run: _Run) -> None:
        """Kill the run if its time is up, else look again then, or in a second."""
        left = run.started + run.timeout_s - self._clock()
        if left <= 0:
            self.kill(run.attempt, "timeout")
            return
        loop = asyncio.get_running_loop()
        run.look = loop.call_later(min(left, _LOOK_EVERY_S), self._look, run)

    def _ended(self, run: _Run, work: asyncio.Task[str]) -> None:
        del self._runs[run.attempt]
        if run.look is not None:
            run.look.cancel()
        result = _result(run, work, self._clock() - run.started)
        if run.killed != "stop":
            self._report(result)


def _payload(text: str) -> dict[str, Any]:
    try:
        payload = jsontext.loads(text)
    except jsontext.UnstorableJSON as error:
        raise TaskError(f"payload: not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise TaskError("payload: must be an object")
    return payload


def _result(run: _Run, work: asyncio.Task[str], ran_s: float) -> Result:
    """A success that came before the kill stays one; any other end of a killed run is the kill's."""
    ran_s = max(0.0, ran_s)
    error = asyncio.CancelledError() if work.cancelled() else work.exception()
    if error is None:
        return Result(attempt=run.attempt, outcome=Outcome.SUCCESS, ran_s=ran_s, result_json=work.result())
    outcome, message = _verdict(run, error)
    return Result(
        attempt=run.attempt,
        outcome=outcome,
        ran_s=ran_s,
        error_message=_storable(message, MAX_MESSAGE),
        error_traceback=_trace(error) if outcome is Outcome.FAILED else None,
    )


def _verdict(run: _Run, error: BaseException) -> tuple[_Failure, str]:
    if run.killed == "timeout":
        return Outcome.TIMEOUT, f"ran longer than its timeout of {run.timeout_s:g} s"
    if run.killed is not None:
        return Outcome.CANCELLED, "cancelled while running"
    if isinstance(error, (PayloadError, TaskError)):
        return Outcome.FAILED, str(error)
    return Outcome.FAILED, f"{type(error).__name__}: {error}"


def _trace(error: BaseException) -> str | None:
    """The traceback's end, where the cause is. None for failures that explain themselves."""
    if isinstance(error, (PayloadError, TaskError, asyncio.CancelledError)):
        return None
    lines = "".join(traceback.format_exception(error))
    return _storable(lines[-MAX_TRACEBACK:], MAX_TRACEBACK)


def _storable(text: str, limit: int) -> str:
    """The text as JSON can carry it, cut to the limit in characters."""
    cleaned: str = jsontext.loads(jsontext.dumps_lossy(text[:limit]))
    return cleaned[:limit]  # a replaced character may have become several
