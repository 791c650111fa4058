"""Carries out what the ledger decides: disk, executor, and the messages of the current connection."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from retire_cluster.agent.config import Timing
from retire_cluster.agent.execution.executor import Executor
from retire_cluster.agent.execution.feed import Feed
from retire_cluster.agent.execution.handlers import Handler
from retire_cluster.agent.ledger import (
    Drop,
    Forget,
    Instruction,
    Kill,
    Ledger,
    Mark,
    Persist,
    Record,
    Reject,
    Send,
    Start,
)
from retire_cluster.agent.metrics import boot_clock
from retire_cluster.agent.outbox import Outbox, OutboxError, Write
from retire_cluster.protocol.messages import (
    Accepted,
    Assign,
    Cancel,
    Go,
    Held,
    Message,
    OutputAck,
    Result,
    ResultAck,
    Stop,
)
from retire_cluster.protocol.states import HeldState

MAX_HELD = 640  # attempts, results that nobody took included: they fit into the first frame of a connection
WORK = (Assign, Go, Cancel, Stop, ResultAck, OutputAck)
_NOBODY_S = "0" * 32  # no attempt's id
# Changes nothing, but has to be written: whether the disk takes writes again.
PROBE: list[Write] = [Persist(Record(_NOBODY_S, Mark.OVER)), Forget((_NOBODY_S,))]

logger = logging.getLogger(__name__)


def _nowhere(message: Message) -> None:
    """Without a connection messages are void: the held list and connected() make good for them."""


def _nobody() -> None:
    """Without a connection nobody waits for a change: the next registration tells it."""


class Workbench:
    """The attempts of this agent. One frame, or one turn of the loop, is one transaction."""

    def __init__(
        self,
        outbox: Outbox,
        handlers: Mapping[str, Handler],
        slots: int,
        timing: Timing,
        directory: Path,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        """`directory` is where tasks get directories of their own."""
        self.handlers = handlers
        self.slots = slots
        self._outbox = outbox
        self._timing = timing
        self._clock = clock
        self._ledger = Ledger(outbox.records())
        self._send: Callable[[Message], None] = _nowhere
        self._feed = Feed(lambda message: self._send(message))
        self._executor = Executor(handlers, self._report, self._gone, directory, self._feed, clock)
        self._accepted_at: dict[str, float] = {}
        self._ended: list[Result] = []
        self._parked: deque[list[Instruction]] = deque()  # waits for the disk, in order
        self._disk_error: str | None = None
        self._owners_reason: str | None = None
        self._pause_changed: Callable[[], None] = _nobody
        self._is_leaving = False
        self._uneasy = asyncio.Event()  # something waits for maintain()

    # --- for the connection ---------------------------------------------------------------------------------

    def attach(self, send: Callable[[Message], None], pause_changed: Callable[[], None] = _nobody) -> None:
        """A connection is welcome: its messages go to `send`, beginning with what is unacknowledged.

        `pause_changed` is called when `paused_reason` is another than before.
        """
        self._send, self._pause_changed = send, pause_changed
        self._feed.connected()  # before the results: what was printed came before the end
        self._carry_out(self._ledger.connected())

    def detach(self) -> None:
        self._send, self._pause_changed = _nowhere, _nobody

    def receive(self, messages: Iterable[Message]) -> None:
        """Act on one frame's messages of the kinds in WORK."""
        self._carry_out([instruction for message in messages for instruction in self._decide(message)])

    def held(self) -> tuple[Held, ...]:
        """What the gateway is told at register and in every heartbeat."""
        now = self._clock()
        return tuple(
            Held(
                attempt=attempt,
                state=state,
                age_s=round(max(0.0, now - self._accepted_at.get(attempt, now)), 1),
            )
            for attempt, state in self._ledger.held()[:MAX_HELD]
        )

    @property
    def paused_reason(self) -> str | None:
        """Why no new task is taken at all, every reason there is; None while all is well."""
        return "; ".join(filter(None, (self._disk_error, self._owners_reason)))[:500] or None

    def pause(self, reason: str | None) -> None:
        """Take no new task for this reason, or, with None, take them again. What runs goes on."""
        self._owners_reason = reason
        self._pause_changed()

    @property
    def has_unacknowledged(self) -> bool:
        """Whether a result waits for the gateway's word that it has it."""
        return any(state is HeldState.FINISHED for _, state in self._ledger.held())

    # --- life -----------------------------------------------------------------------------------------------

    async def maintain(self) -> None:
        """Retry a failing disk, and force to the medium what stays unacknowledged. Runs for ever."""
        while True:
            await self._uneasy.wait()
            self._uneasy.clear()
            await asyncio.sleep(self._timing.sync_s)
            self._retry_disk()
            if self.has_unacknowledged or self._outbox.needs_sync():
                await self._sync()

    async def age(self) -> None:
        """Forget old attempts once a day. Runs for ever."""
        while True:
            await asyncio.sleep(self._timing.forget_s)
            self._carry_out(self._ledger.rotate())

    async def end_work(self) -> None:
        """End what runs, without a report: the goodbye hands it back, or an operator removed the device."""
        self._is_leaving = True
        await self._executor.close()
        self._flush_ended()

    # --- pieces ---------------------------------------------------------------------------------------------

    def _decide(self, message: Message) -> list[Instruction]:
        ledger = self._ledger
        match message:
            case Assign():
                return ledger.assign(message, refuse=self._refusal(message.task_type))
            case Go():
                return [step for attempt in message.attempts for step in ledger.go(attempt)]
            case Cancel():
                return ledger.cancel(message.attempt, message.reason)
            case Stop():
                return [step for attempt in message.attempts for step in ledger.stop(attempt)]
            case ResultAck():
                return ledger.acknowledged(message.attempt, message.verdict)
            case OutputAck():
                self._feed.acknowledged(message.attempt, message.number)
        return []

    def _refusal(self, task_type: str) -> str | None:
        if self._is_leaving:
            return "the agent is stopping"
        if self.paused_reason is not None:
            return self.paused_reason
        if task_type not in self.handlers:
            return f"this device does not offer {task_type!r}"
        if self._ledger.size >= MAX_HELD:
            return f"{MAX_HELD} attempts are held, most of them with results that were not acknowledged yet"
        if self._ledger.active >= self.slots:
            return f"no free slot: {self._ledger.active} of {self.slots} are in use"
        return None

    def _report(self, result: Result) -> None:
        """Collect what ends in this turn of the loop, so that it costs one commit and one frame."""
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._flush_ended)
        self._ended.append(result)

    def _gone(self, attempt: str) -> None:
        self._feed.drop(attempt)
        self._carry_out(self._ledger.gone(attempt))

    def _flush_ended(self) -> None:
        ended, self._ended = self._ended, []
        for result in ended:
            self._feed.end(result.attempt)
        self._carry_out([step for result in ended for step in self._ledger.finished(result)])

    def _carry_out(self, instructions: list[Instruction]) -> None:
        """Kills wait for nothing; all writes go to disk in one transaction; then the rest, in order."""
        for instruction in instructions:
            if isinstance(instruction, Kill):
                self._executor.kill(instruction.attempt, instruction.reason)
        writes = _writes(instructions)
        if writes and (self._parked or not self._write(writes)):
            self._uneasy.set()
            instructions = self._hand_back(instructions)
            if _writes(instructions):
                self._parked.append(instructions)
                return
        self._act(instructions)

    def _hand_back(self, instructions: list[Instruction]) -> list[Instruction]:
        """What was taken just now goes back: to wait for the disk with it would keep it from other devices.

        Returns the rest.
        """
        taken = {
            item.record.attempt
            for item in instructions
            if isinstance(item, Persist) and item.record.mark is Mark.SEEN
        }
        reason = self.paused_reason or "the device cannot write to its disk"
        self._act([step for attempt in taken for step in self._ledger.hand_back(attempt, reason)])
        return [item for item in instructions if not _begins(item, taken)]

    def _write(self, writes: list[Write]) -> bool:
        """Whether the writes are on disk now; the reason why not is kept for those who ask for work."""
        try:
            self._outbox.apply(writes)
        except OutboxError as error:
            if self._disk_error is None:
                logger.warning("%s: no new task is taken until this works again; is the disk full?", error)
            self._set_disk_error(f"the device cannot write to its disk: {error}"[:500])
            return False
        if self._disk_error is not None:
            logger.info("the disk takes writes again")
            self._set_disk_error(None)
        self._note(writes)
        return True

    def _set_disk_error(self, error: str | None) -> None:
        if error != self._disk_error:
            self._disk_error = error
            self._pause_changed()

    def _note(self, writes: list[Write]) -> None:
        """Keep the ages of attempts, and have maintain() look after new results."""
        for write in writes:
            if isinstance(write, Drop):
                self._accepted_at.pop(write.attempt, None)
            elif isinstance(write, Persist) and write.record.mark is Mark.SEEN:
                self._accepted_at[write.record.attempt] = self._clock()
            elif isinstance(write, Persist):
                self._uneasy.set()

    def _act(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Send):
                self._send(instruction.message)
            elif isinstance(instruction, Start):
                self._executor.start(instruction.assign)

    def _retry_disk(self) -> None:
        while self._parked and self._write(_writes(self._parked[0])):
            self._act(self._parked.popleft())
        if self._disk_error is not None and not self._parked:
            self._write(PROBE)
        if self._disk_error is not None:
            self._uneasy.set()

    async def _sync(self) -> None:
        try:
            await asyncio.to_thread(self._outbox.sync)
        except OutboxError as error:
            logger.warning("%s; results survive a crash of the agent, but not of the machine", error)


def _begins(instruction: Instruction, attempts: set[str]) -> bool:
    """Whether it is part of taking one of these attempts."""
    match instruction:
        case Persist(record=Record(attempt=attempt, mark=Mark.SEEN)) | Start(assign=Assign(attempt=attempt)):
            return attempt in attempts
        case Send(message=Accepted(attempts=(attempt,))):
            return attempt in attempts
    return False


def _writes(instructions: list[Instruction]) -> list[Write]:
    return [item for item in instructions if isinstance(item, (Persist, Drop, Forget, Reject))]
