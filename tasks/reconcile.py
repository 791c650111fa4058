"""What the server wants of an agent, derived from rows and the agent's held list. Pure.

Level, not edge: the wish is sent on the hint and again at every heartbeat until the report shows it done, so a
dropped frame costs an interval and nothing else.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from retire_cluster.protocol.states import AttemptState, DeviceLossPolicy, HeldState
from tasks.rules import AttemptRow, TaskRow, adoptable

Rows = Mapping[UUID, tuple[TaskRow, AttemptRow]]


class Wish(Enum):
    """One action for one attempt."""

    MOVE = "move"  # to the session that just registered
    ACCEPT = "accept"
    ADOPT = "adopt"
    GO = "go"
    CANCEL = "cancel"
    TIME_OUT = "time out"
    STOP = "stop"
    LOSE = "lose"


@dataclass(frozen=True, slots=True)
class Action:
    attempt: UUID
    wish: Wish


def at_register(device_id: str, held: Mapping[UUID, HeldState], rows: Rows) -> Iterable[Action]:
    """A new session: what is held moves over, what is not held is lost. Then as at a heartbeat."""
    for attempt_id, (_, attempt) in rows.items():
        if attempt.device_id == device_id and attempt.live:
            yield Action(attempt_id, Wish.MOVE if attempt_id in held else Wish.LOSE)


def at_heartbeat(
    device_id: str,
    session: int,
    held: Mapping[UUID, HeldState],
    rows: Rows,
    overdue: Collection[UUID] = (),
) -> Iterable[Action]:
    """Compare what the device holds with what the rows say it should hold. The time of `overdue` ones is over."""
    for attempt_id, state in held.items():
        if state is not HeldState.FINISHED:  # a finished one is answered by its result's acknowledgement
            yield from _held(device_id, session, attempt_id, state, rows, overdue)
    for attempt_id, (_, attempt) in rows.items():
        forgotten = attempt.state is AttemptState.RUNNING and attempt.session == session
        if forgotten and attempt.device_id == device_id and attempt_id not in held:
            yield Action(attempt_id, Wish.LOSE)


def _held(
    device_id: str,
    session: int,
    attempt_id: UUID,
    state: HeldState,
    rows: Rows,
    overdue: Collection[UUID],
) -> Iterable[Action]:
    pair = rows.get(attempt_id)
    if pair is None or pair[1].device_id != device_id:
        yield Action(attempt_id, Wish.STOP)
        return
    task, attempt = pair
    if not attempt.live:
        if not adoptable(task, attempt):
            yield Action(attempt_id, Wish.STOP)
            return
        yield Action(attempt_id, Wish.ADOPT)
    elif attempt.session != session:
        return  # another session's: its own report decides
    elif attempt.state is AttemptState.OFFERED:
        yield Action(attempt_id, Wish.ACCEPT)
    if task.cancel_requested_at is not None:
        yield Action(attempt_id, Wish.CANCEL)
    elif attempt_id in overdue:
        yield Action(attempt_id, Wish.TIME_OUT)
    elif state is HeldState.WAITING and task.on_device_loss is DeviceLossPolicy.FAIL:
        yield Action(attempt_id, Wish.GO)
