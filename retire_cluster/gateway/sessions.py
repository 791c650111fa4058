"""Connected devices as the gateway remembers them. A hint of the database's rows, refreshed after every commit."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from retire_cluster.gateway.complaints import Complaints
from retire_cluster.gateway.streaks import FAST_S, SUSPECT, WORKED_S, Streak
from retire_cluster.protocol.messages import Goodbye, Message
from retire_cluster.protocol.states import AttemptState
from tasks.reservations import with_free
from tasks.rules import AttemptRow, TaskRow
from tasks.scheduling.planner import DeviceView

DECLINED_HOLD_S = (
    1.0  # a device that declined is left alone for so long, doubled with each further time in a row
)
LONGEST_HOLD_S = 60.0


class Link(Protocol):
    """One agent's connection. Its methods belong to the event loop's thread."""

    address: str
    last_heard: float  # time.monotonic() of the last frame

    def send(self, messages: list[Message]) -> None:
        """Queue messages; they leave in as few frames as they fit in."""

    def close(self, goodbye: Goodbye) -> None:
        """Say why, then close."""

    def frame_done(self) -> None:
        """A frame of this link was dealt with: it may send another."""


@dataclass(slots=True)
class Session:
    """One accepted connection of one device."""

    link: Link
    totals: DeviceView
    attempts: dict[UUID, AttemptRow] = field(default_factory=dict)  # live ones of this session
    secret_confirmed: bool = True
    paused: str = ""  # why its agent takes no new task, as it said last
    stored_pause: str = ""  # what of it is committed
    streak: Streak = field(default_factory=Streak)  # of fast failures
    hold_until: float = 0.0
    declined: int = 0  # times in a row
    unanswered: int = 0  # offers in a row
    opened_at: float = field(default_factory=time.monotonic)
    cancels_sent: set[UUID] = field(default_factory=set)
    withdrawn: set[UUID] = field(default_factory=set)  # taken away from the agent, which is told to stop them
    pings: dict[UUID, float] = field(default_factory=dict)  # unanswered ones, and when they left (monotonic)
    config_version: int = 0  # of the settings the agent was told

    def hold(self, now: float) -> None:
        """It declined: offer it nothing for a while. `now` is monotonic."""
        self.hold_until = now + min(LONGEST_HOLD_S, DECLINED_HOLD_S * 2 ** min(self.declined, 10))
        self.declined += 1

    @property
    def at_rest(self) -> bool:
        """Nothing is asked of it: all it says are heartbeats. Any thread may ask."""
        return self.secret_confirmed and not (self.attempts or self.withdrawn or self.pings)

    @property
    def device_id(self) -> str:
        return self.totals.id

    @property
    def number(self) -> int:
        return self.totals.session

    @property
    def running(self) -> int:
        """How many tasks run on it."""
        return sum(row.state is AttemptState.RUNNING for row in self.attempts.values())

    def view(self, *, stale: bool = False) -> DeviceView:
        """The device with what is free on it; nothing while it is paused or held.

        `stale`: attempts changed in a transaction that is still open; then all of it counts as free here, and
        placement derives the truth from the rows.
        """
        now = time.monotonic()
        failing = self.streak.length(now) >= SUSPECT
        totals = replace(self.totals, failing=True) if failing else self.totals
        if self.paused or now < self.hold_until:
            return replace(totals, free_slots=0)
        if stale or not self.attempts:
            return totals
        used = (
            sum(row.slots for row in self.attempts.values()),
            sum(row.memory_mb for row in self.attempts.values()),
            sum(row.storage_mb for row in self.attempts.values()),
        )
        return with_free(totals, used)

    def works(self, now: datetime) -> bool:
        """It does what devices are for: not failing, and a task succeeded of late or has run for a while."""
        clock = time.monotonic()
        if self.streak.length(clock):
            return False
        old = now - timedelta(seconds=FAST_S)
        running = (row.accepted_at for row in self.attempts.values() if row.accepted_at is not None)
        return clock - self.streak.worked_at <= WORKED_S or any(begun < old for begun in running)

    def renewable(self, before: datetime) -> list[AttemptRow]:
        """Running attempts whose lease ends before the moment."""
        return [
            row
            for row in self.attempts.values()
            if row.state is AttemptState.RUNNING and row.lease_until < before
        ]

    def note_metrics(self, metrics: dict[str, Any]) -> None:
        """Take over what placement prefers by: plugged in, cool."""
        on_battery = metrics.get("battery_percent") is not None and metrics.get("charging") is False
        temperature = metrics.get("temperature_c")
        if (on_battery, temperature) != (self.totals.on_battery, self.totals.temperature_c):
            self.totals = replace(self.totals, on_battery=on_battery, temperature_c=temperature)


class Sessions:
    """All sessions of this gateway. Only the committer thread changes it."""

    def __init__(self) -> None:
        self.complaints = Complaints()
        self.by_device: dict[str, Session] = {}
        self._tasks: dict[UUID, TaskRow] = {}  # of live attempts, as this gateway stored them last
        self._by_link: dict[int, Session] = {}

    def of(self, link: Link) -> Session | None:
        """The link's session while it is the device's current one."""
        return self._by_link.get(id(link))

    def is_at_rest(self, link: Link) -> bool:
        """Whether the link's device is. Any thread may ask."""
        session = self.of(link)
        return session is not None and session.at_rest

    def open(self, session: Session) -> Session | None:
        """Add a session; returns the one it replaces."""
        old = self.by_device.get(session.device_id)
        if old is not None:
            self.close(old)
        self.by_device[session.device_id] = session
        self._by_link[id(session.link)] = session
        return old

    def all(self) -> list[Session]:
        return list(self.by_device.values())

    def known(self, session: Session, attempt_id: UUID) -> tuple[TaskRow, AttemptRow] | None:
        """A live attempt of the session with its task, as this gateway stored them last."""
        attempt = session.attempts.get(attempt_id)
        task = attempt and self._tasks.get(attempt.task_id)
        return (task, attempt) if task and attempt else None

    def close(self, session: Session) -> None:
        for row in session.attempts.values():
            self._tasks.pop(row.task_id, None)
        self._by_link.pop(id(session.link), None)
        if self.by_device.get(session.device_id) is session:
            del self.by_device[session.device_id]

    def remember(self, row: AttemptRow, tasks: Mapping[UUID, TaskRow]) -> None:
        """Follow an attempt that changed; its task is among those that changed, or stayed as it was."""
        session = self.by_device.get(row.device_id)
        if session is None:
            return
        if row.live and row.session == session.number:
            session.attempts[row.id] = row
            if row.task_id in tasks:
                self._tasks[row.task_id] = tasks[row.task_id]
        else:
            session.attempts.pop(row.id, None)
            session.cancels_sent.discard(row.id)
            self._tasks.pop(row.task_id, None)

    def remember_tasks(self, tasks: Mapping[UUID, TaskRow]) -> None:
        """Follow those of the tasks that changed whose live attempts are here."""
        for task_id in tasks.keys() & self._tasks.keys():
            self._tasks[task_id] = tasks[task_id]
