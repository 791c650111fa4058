"""What `/ws` tells, typed. docs/reference/events.md says when each comes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from retire_cluster.protocol.states import TERMINAL
from retire_cluster.sdk.decoding import Mismatch, Model


@dataclass(frozen=True, kw_only=True)
class Event(Model):
    """Something that happened; also the class of types this version does not know.

    `seq` numbers all events of the cluster, `cursor` names this place in the stream, `data` is all that was said.
    """

    type: str
    seq: int
    cursor: str
    timestamp: datetime
    data: Mapping[str, Any]

    @property
    def topic(self) -> str:
        return self.type.partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class Snapshot(Event):
    """How things are now: the first of a stream, and after each Reset. What the topics leave out is None."""

    cluster: Mapping[str, Any] | None = None
    devices: tuple[Mapping[str, Any], ...] | None = None
    tasks: Mapping[str, int] | None = None
    task: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Reset(Event):
    """Events are missing, and a Snapshot follows: forget what was counted up so far."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class TasksSubmitted(Event):
    """One submission, single or batch."""

    task_ids: tuple[str, ...]
    count: int
    task_types: tuple[str, ...]
    status: str


@dataclass(frozen=True, kw_only=True)
class TaskEvent(Event):
    """A task changed. Of two about one task the one with the higher `version` is the newer."""

    task_id: str
    status: str
    version: int
    device_id: str | None = None
    attempt: int | None = None
    progress: float | None = None
    progress_message: str | None = None
    cancel_requested: bool = False

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


@dataclass(frozen=True, kw_only=True)
class TaskOutput(Event):
    """A task printed something: its output now ends at `offset`. Read it with logs()."""

    task_id: str
    offset: int


@dataclass(frozen=True, kw_only=True)
class DeviceEvent(Event):
    """A device came, went or changed; what does not change is None."""

    device_id: str
    status: str | None = None
    reason: str | None = None
    joined: bool | None = None
    role: str | None = None
    platform: str | None = None
    cordoned: bool | None = None
    cordon_reason: str | None = None
    draining: bool | None = None
    paused_reason: str | None = None
    verified: bool | None = None


@dataclass(frozen=True, kw_only=True)
class GatewayEvent(Event):
    """A gateway serves, was stopped, or died."""

    gateway_id: str
    host: str
    port: int
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConfigChanged(Event):
    """A section of the configuration is at another version."""

    section: str
    version: int


TASK_CHANGES = ("queued", "pending", "assigned", "running", "progress", "cancelling", "finished")
KINDS: Mapping[str, type[Event]] = {
    "snapshot": Snapshot,
    "reset": Reset,
    "task.submitted": TasksSubmitted,
    "task.output": TaskOutput,
    **{f"task.{change}": TaskEvent for change in TASK_CHANGES},
    **{f"device.{change}": DeviceEvent for change in ("online", "offline", "changed", "removed")},
    **{f"cluster.gateway_{change}": GatewayEvent for change in ("started", "stopped")},
    "config.changed": ConfigChanged,
}


def event(frame: Any) -> Event:
    """The event of a frame. Raises Mismatch."""
    data = frame.get("data") if isinstance(frame, Mapping) else None
    if not isinstance(data, Mapping):
        raise Mismatch("an event without data")
    return KINDS.get(str(frame.get("type")), Event).of({**data, **frame})
