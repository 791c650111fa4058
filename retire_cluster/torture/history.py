"""What was seen of one episode, by whoever could see it: the client, the database, the work itself. Plain values.

Every time is in seconds since the epoch; all processes of an episode share one machine and so one clock.
"""

from dataclasses import dataclass
from typing import Any

from retire_cluster.protocol.states import TERMINAL

SUCCESS, FAILED, TIMEOUT, CANCELLED = "success", "failed", "timeout", "cancelled"
REPORTED_FAILURES = frozenset({FAILED, TIMEOUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call that changes something: `submit`, `cancel` or `retry`. No code: the answer never came."""

    action: str
    sent_at: float
    answered_at: float | None = None
    code: int | None = None
    task_id: str = ""

    @property
    def refused(self) -> bool:
        """The server certainly did nothing."""
        return self.code is not None and self.code >= 400


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenAttempt:
    """An attempt as an answer shows it."""

    no: int
    round: int
    device: str
    state: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A task as one answer shows it."""

    asked_at: float
    answered_at: float
    status: str
    device: str = ""
    completed_at: str = ""
    result: str = ""  # JSON text
    attempts: tuple[SeenAttempt, ...] = ()

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def ending(self) -> tuple[str, str, str]:
        """What must never change once it is terminal."""
        return self.status, self.completed_at, self.result


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTask:
    """A task's row at the end of the episode."""

    id: str
    status: str
    round: int
    finished_at: float | None
    result_attempt: str = ""

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAttempt:
    """An attempt's row at the end of the episode. `ran_s` is set exactly when the device's report was recorded."""

    id: str
    no: int
    round: int
    device: str
    state: str
    outcome: str
    offered_at: float
    ended_at: float | None
    confirmed: bool = False
    ran_s: float | None = None
    result: str = ""
    late: str = ""
    slots: int = 1
    memory_mb: int = 0

    @property
    def reported(self) -> bool:
        return self.ran_s is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One stored change of a task's status or end, or of an attempt's state; `old` is empty for a new row."""

    id: str
    old: str
    new: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of a task's work, as the work itself wrote it down outside the cluster."""

    attempt: str
    pid: int
    started: float
    last_sign: float
    ended: bool
    is_alive: bool = False  # when the episode was over


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything seen of one task."""

    nonce: str
    task_type: str
    timeout_s: float
    max_retries: int = 0
    at_most_once: bool = False
    expected: Any = None  # the result of a success; None for a command, whose output names its attempt
    asked: tuple[Asked, ...] = ()
    seen: tuple[Seen, ...] = ()
    copies: int = 1  # rows of the database that carry its nonce
    row: StoredTask | None = None
    attempts: tuple[StoredAttempt, ...] = ()
    executions: tuple[Execution, ...] = ()

    def asked_for(self, action: str) -> list[Asked]:
        return [item for item in self.asked if item.action == action]

    def in_round(self, number: int) -> list[StoredAttempt]:
        return sorted((item for item in self.attempts if item.round == number), key=lambda item: item.no)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A device that nobody could reach, and why: `kill`, `stop`, `stall` or `refuse`."""

    device: str
    kind: str
    since: float
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A while in which the server was killed, stopped, or too slow to judge anybody by its clock."""

    since: float
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDisk:
    """A result that lay on a device's disk, unacknowledged, when its agent was killed."""

    device: str
    attempt: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a device may have reserved at once."""

    device: str
    slots: int
    memory_mb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One episode, or one chaos run."""

    number: int
    lease_s: float
    stories: tuple[Story, ...]
    clock_s: float = 0.0  # by which times in the rows may be early, where several processes write
    changes: tuple[Change, ...] = ()  # of its tasks and attempts, in the order they were stored
    capacities: tuple[Capacity, ...] = ()
    outages: tuple[Outage, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    on_disk: tuple[OnDisk, ...] = ()
    undelivered: tuple[OnDisk, ...] = ()  # still on a device's disk long after the last fault
    unsettled: tuple[str, ...] = ()  # what was waited for in vain
