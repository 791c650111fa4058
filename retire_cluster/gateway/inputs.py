"""What the event loop hands to the committer, and what a committed batch does outside the database."""

import time
from dataclasses import dataclass, field
from uuid import UUID

from retire_cluster.gateway.sessions import Link, Session
from retire_cluster.protocol.messages import Goodbye, Message, Register
from tasks.rules import AttemptRow, TaskRow


@dataclass(frozen=True, slots=True)
class Opened:
    """An agent's first message."""

    link: Link
    message: Register


@dataclass(frozen=True, slots=True)
class Received:
    """A later frame of a link, and when it arrived (monotonic)."""

    link: Link
    messages: tuple[Message, ...]
    heard_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is gone; `orderly` when the agent said goodbye first, `stopping` when this gateway did."""

    link: Link
    reason: str
    orderly: bool = False
    stopping: bool = False


Input = Opened | Received | Closed


@dataclass(slots=True)
class Effects:
    """Collected during the transaction, carried out after its commit, dropped if it fails."""

    send: dict[int, tuple[Link, list[Message]]] = field(default_factory=dict)
    close: list[tuple[Link, Goodbye]] = field(default_factory=list)
    answered: list[Link] = field(default_factory=list)  # one entry per frame that was dealt with
    opened: list[Session] = field(default_factory=list)
    ended: list[Session] = field(default_factory=list)
    finished: list[UUID] = field(default_factory=list)
    changed: list[AttemptRow] = field(default_factory=list)
    changed_tasks: dict[UUID, TaskRow] = field(default_factory=dict)
    time_left: dict[UUID, float] = field(default_factory=dict)  # seconds, of those changed attempts that run
    cancelling: list[UUID] = field(default_factory=list)  # live attempts of this gateway
    told: list[UUID] = field(default_factory=list)  # attempts whose devices know that they are to end
    pings_sent: list[tuple[Session, UUID]] = field(default_factory=list)
    pings_ended: list[tuple[Session, UUID]] = field(default_factory=list)
    pauses: list[tuple[Session, str]] = field(default_factory=list)  # as the rows have them now
    cordoned: list[Session] = field(default_factory=list)  # by the cluster itself
    placed: bool = False
    work_may_remain: bool = False

    def say(self, link: Link, message: Message) -> None:
        """Queue a message; all for one link leave together."""
        self.send.setdefault(id(link), (link, []))[1].append(message)
