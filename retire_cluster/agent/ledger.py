"""Which attempts this agent holds, as a pure state machine: events in, instructions out, no I/O, no clock.

An attempt is started at most once, never after a cancel or stop was seen; a finished one is held, and sent
again after each reconnect, until the gateway acknowledges it. What survives a crash are the records on disk.

    unknown --assign--> waiting --go--> running --finished--> finished --acknowledged--> over
       |                  |               |                      ^
       +--cancel----------+---------------|----------------------+        stop: over, from anywhere
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from retire_cluster.protocol.messages import Accepted, Assign, Declined, Message, Result, Stopped
from retire_cluster.protocol.states import HeldState, Outcome, Verdict

# Tombstones in one generation before it is aged early: two generations cost a busy agent about 5 MB.
MAX_GENERATION = 8192

KillReason = Literal["user", "timeout", "stop"]


class Mark(StrEnum):
    """What the disk knows about an attempt."""

    SEEN = "seen"  # accepted; after a crash it is never started again
    DONE = "done"  # finished, the result waits for its acknowledgement
    OVER = "over"  # a tombstone: acknowledged, stopped, or lost in a crash


@dataclass(frozen=True, slots=True)
class Record:
    attempt: str
    mark: Mark
    result: Result | None = None  # exactly for DONE


@dataclass(frozen=True, slots=True)
class Send:
    """Put the message on the current connection; without one it is void: connected() makes good."""

    message: Message


@dataclass(frozen=True, slots=True)
class Start:
    assign: Assign


@dataclass(frozen=True, slots=True)
class Kill:
    """End the attempt's work. Reported as finished() afterwards; for reason "stop" as gone()."""

    attempt: str
    reason: KillReason


@dataclass(frozen=True, slots=True)
class Persist:
    """The record must be on disk before any later instruction of the same list is carried out."""

    record: Record


@dataclass(frozen=True, slots=True)
class Drop:
    """Free what is stored for the attempt but keep its id, as a tombstone."""

    attempt: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete the tombstones."""

    attempts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reject:
    """The gateway does not know the attempt: keep the record aside as evidence."""

    record: Record


Instruction = Send | Start | Kill | Persist | Drop | Forget | Reject


class Ledger:
    """The attempts held, by id. Every event returns what is to be done, in order."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        """Take over what survived on disk."""
        self._waiting: dict[str, Assign] = {}
        self._running: dict[str, None] = {}
        self._stopping: set[str] = set()  # told to stop, but not gone yet
        self._finished: dict[str, Result] = {}
        # Tombstones in two generations: OVER, or SEEN for what a crash ended.
        self._over: dict[str, Mark] = {}
        self._older: dict[str, Mark] = {}
        for record in records:
            if record.result is not None:
                self._finished[record.attempt] = record.result
            else:
                self._over[record.attempt] = record.mark

    # --- what the gateway says ------------------------------------------------------------------------------

    def assign(self, message: Assign, *, refuse: str | None) -> list[Instruction]:
        """Take the attempt, unless it was seen before or there is a reason to refuse."""
        attempt = message.attempt
        if self._is_known(attempt):
            return self._answer(attempt)
        if refuse is not None:
            return [Send(Declined(attempt=attempt, reason=refuse))]
        seen = Persist(Record(attempt, Mark.SEEN))
        accepted = Send(Accepted(attempts=(attempt,)))
        if message.wait_for_go:
            self._waiting[attempt] = message
            return [seen, accepted]
        self._running[attempt] = None
        return [seen, Start(message), accepted]

    def hand_back(self, attempt: str, reason: str) -> list[Instruction]:
        """Nothing was begun of an attempt just taken, and nothing is on disk: as if it had been refused."""
        self._waiting.pop(attempt, None)
        self._running.pop(attempt, None)
        return [Send(Declined(attempt=attempt, reason=reason))]

    def go(self, attempt: str) -> list[Instruction]:
        """Start an attempt that waits for it; any other has started already or never will."""
        message = self._waiting.pop(attempt, None)
        if message is None:
            return []
        self._running[attempt] = None
        return [Start(message)]

    def cancel(self, attempt: str, reason: Literal["user", "timeout"] = "user") -> list[Instruction]:
        """End the attempt's work; a cancel may overtake its assign, which then finds the result."""
        if attempt in self._running:
            return [Kill(attempt, reason)]
        if attempt in self._finished or self._tombstone(attempt) is Mark.OVER:
            return self._answer(attempt)
        return self._finish(_unstarted(attempt, reason))

    def stop(self, attempt: str) -> list[Instruction]:
        """The attempt is over on the server: end its work, report nothing of it."""
        if attempt in self._stopping:
            return []
        if attempt in self._running:
            self._stopping.add(attempt)
            return [Kill(attempt, "stop"), *self._bury(attempt)]
        buried = [] if self._tombstone(attempt) is not None else self._bury(attempt)
        return [*buried, Send(Stopped(attempts=(attempt,)))]

    def acknowledged(self, attempt: str, verdict: Verdict) -> list[Instruction]:
        """The gateway has the result: let it go."""
        result = self._finished.get(attempt)
        if result is None:
            return []
        evidence: list[Instruction] = []
        if verdict is Verdict.UNKNOWN:
            evidence = [Reject(Record(attempt, Mark.DONE, result))]
        return [*evidence, *self._bury(attempt)]

    # --- what happens here ----------------------------------------------------------------------------------

    def finished(self, result: Result) -> list[Instruction]:
        """The executor ended the attempt. Nothing, when it was stopped meanwhile."""
        return self._finish(result) if result.attempt in self._running else []

    def gone(self, attempt: str) -> list[Instruction]:
        """Nothing of the attempt that was told to stop runs any more."""
        if attempt not in self._stopping:
            return []
        self._stopping.remove(attempt)
        return [Send(Stopped(attempts=(attempt,)))]

    def connected(self) -> list[Instruction]:
        """After welcome: send again what is not acknowledged."""
        return [Send(result) for result in self._finished.values()]

    def rotate(self) -> list[Instruction]:
        """Forget the tombstones that were there at the last rotation already.

        Called once a period, each id is kept for one to two periods, whatever any clock says.
        """
        # What still ends is kept: forgotten, it could be started again beside its old self.
        kept = {attempt: mark for attempt, mark in self._older.items() if attempt in self._stopping}
        forgotten = tuple(attempt for attempt in self._older if attempt not in kept)
        self._older, self._over = self._over | kept, {}
        return [Forget(forgotten)] if forgotten else []

    # --- what is asked --------------------------------------------------------------------------------------

    @property
    def active(self) -> int:
        """How many attempts run, wait or still end: each occupies a slot."""
        return len(self._waiting) + len(self._running) + len(self._stopping)

    @property
    def size(self) -> int:
        """How many attempts are held."""
        return len(self._waiting) + len(self._running) + len(self._finished)

    def held(self) -> list[tuple[str, HeldState]]:
        """The attempts to report: waiting, running, and finished without acknowledgement."""
        return [
            *((attempt, HeldState.WAITING) for attempt in self._waiting),
            *((attempt, HeldState.RUNNING) for attempt in self._running),
            *((attempt, HeldState.FINISHED) for attempt in self._finished),
        ]

    def records(self) -> list[Record]:
        """What is on disk when all instructions so far are carried out."""
        return [
            *(Record(attempt, mark) for attempt, mark in (self._older | self._over).items()),
            *(Record(attempt, Mark.SEEN) for attempt in (*self._waiting, *self._running)),
            *(Record(attempt, Mark.DONE, result) for attempt, result in self._finished.items()),
        ]

    # --- pieces ---------------------------------------------------------------------------------------------

    def _tombstone(self, attempt: str) -> Mark | None:
        return self._over.get(attempt) or self._older.get(attempt)

    def _is_known(self, attempt: str) -> bool:
        places = (self._waiting, self._running, self._finished, self._over, self._older)
        return any(attempt in place for place in places)

    def _answer(self, attempt: str) -> list[Instruction]:
        """The state of an attempt that was seen before.

        A tombstone keeps no result (a day of them would not fit a phone): it says that nothing runs. For what
        a crash ended even that would be a verdict; the gateway passes it, seeing that the attempt is not held.
        """
        if attempt in self._finished:
            return [Send(self._finished[attempt])]
        if attempt in self._waiting or attempt in self._running:
            return [Send(Accepted(attempts=(attempt,)))]
        if attempt in self._stopping:
            return []
        over = self._tombstone(attempt) is Mark.OVER
        return [Send(Stopped(attempts=(attempt,)))] if over else []

    def _finish(self, result: Result) -> list[Instruction]:
        self._remove(result.attempt)
        self._finished[result.attempt] = result
        return [Persist(Record(result.attempt, Mark.DONE, result)), Send(result)]

    def _bury(self, attempt: str) -> list[Instruction]:
        self._remove(attempt)
        aged = self.rotate() if len(self._over) >= MAX_GENERATION else []
        self._over[attempt] = Mark.OVER
        return [Drop(attempt), *aged]

    def _remove(self, attempt: str) -> None:
        self._waiting.pop(attempt, None)
        self._running.pop(attempt, None)
        self._finished.pop(attempt, None)
        self._over.pop(attempt, None)
        self._older.pop(attempt, None)


def _unstarted(attempt: str, reason: Literal["user", "timeout"]) -> Result:
    """The result of an attempt that ended before it began."""
    message = "ended before it started"
    if reason == "timeout":
        return Result(attempt=attempt, outcome=Outcome.TIMEOUT, error_message=message)
    return Result(attempt=attempt, outcome=Outcome.CANCELLED, error_message=message)
