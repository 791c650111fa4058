"""The words for states that cross a process boundary: database, wire and API use exactly these."""

from enum import StrEnum


class TaskStatus(StrEnum):
    """Where a task stands; the last four are terminal."""

    PENDING = "pending"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL

    @property
    def can_retry(self) -> bool:
        """A user may open a new round from here."""
        return self in RETRYABLE


TERMINAL = frozenset({TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMEOUT})
RETRYABLE = TERMINAL - {TaskStatus.SUCCESS}
LIVE = frozenset({TaskStatus.ASSIGNED, TaskStatus.RUNNING})


class AttemptState(StrEnum):
    """One try of a task on one device."""

    OFFERED = "offered"
    RUNNING = "running"
    ENDED = "ended"


class Outcome(StrEnum):
    """How an attempt ended. The first four are an agent's words, the last two the server's."""

    SUCCESS = "success"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    RETURNED = "returned"
    LOST = "lost"


class HeldState(StrEnum):
    """What an agent does with an attempt it holds."""

    WAITING = "waiting"  # accepted, must not start before `go`
    RUNNING = "running"
    FINISHED = "finished"  # the result is on disk, not acknowledged yet


class Verdict(StrEnum):
    """The gateway's answer to a result. Each lets the agent drop it; `unknown` is kept aside as evidence."""

    RECORDED = "recorded"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"


class Stream(StrEnum):
    """Where a piece of a task's output comes from."""

    STDOUT = "stdout"
    STDERR = "stderr"
    LOG = "log"  # what a handler says through its context


class DeviceLossPolicy(StrEnum):
    """What to do with an accepted task whose device is lost."""

    REQUEUE = "requeue"  # at least once
    FAIL = "fail"  # at most once


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class Role(StrEnum):
    WORKER = "worker"
    COMPUTE = "compute"
    STORAGE = "storage"
    MOBILE = "mobile"


class Platform(StrEnum):
    LINUX = "linux"
    WINDOWS = "windows"
    ANDROID = "android"
    DARWIN = "darwin"
