"""A device on which everything fails at once: idle again in no time, it would eat the whole queue. Pure.

What counts: tasks that failed within FAST_S, different ones, in a row, within WITHIN_S. A success or a slower
failure shows that the device can work, and ends the row; cancelled and timed-out tasks tell nothing. One task that
fails again and again is one task, and whoever tries something out by hand is slower than that.

A row says as much about the tasks as about the device. So SUSPECT of them only make placement prefer others, and
FAILURES take the device out of service only while others can do what it cannot; see ingest.py.
"""

from dataclasses import dataclass, field
from uuid import UUID

from retire_cluster.protocol.states import Outcome

SUSPECT = 2
FAILURES = 5
FAST_S = 2.0
WITHIN_S = 60.0
WORKED_S = 600.0  # a success is evidence for so long
REASON = f"{FAILURES} tasks in a row failed within {FAST_S:g} s on it; look at their errors, then uncordon it"


@dataclass(slots=True)
class Streak:
    """Fast failures in a row on one connection, by task, and when (monotonic)."""

    worked_at: float = float("-inf")
    _failed: dict[UUID, float] = field(default_factory=dict)

    def note(self, task_id: UUID, outcome: Outcome, ran_s: float, now: float) -> None:
        """An attempt of the task ended. Noting it again, as after a rollback, changes nothing."""
        if outcome is Outcome.SUCCESS:
            self.worked_at = now
        if outcome is Outcome.SUCCESS or (outcome is Outcome.FAILED and ran_s >= FAST_S):
            self.end()
        elif outcome is Outcome.FAILED:
            self._failed[task_id] = now

    def length(self, now: float) -> int:
        """How many of the tasks are recent."""
        if self._failed:
            self._failed = {task: at for task, at in self._failed.items() if now - at <= WITHIN_S}
        return len(self._failed)

    def end(self) -> None:
        self._failed.clear()
