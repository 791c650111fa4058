"""The server's own deadlines on connected devices: for the end of an attempt out of time, and for a cancel.

What is wanted comes from rows (accepted_at, timeout_s, cancel_requested_at) and is said again with every heartbeat.
When, runs on this process's monotonic clock: neither a device's clock nor a jump of the server's ends any work. A
gateway that was restarted reads the rows again and gives a device that has not stopped its time anew.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from uuid import UUID, uuid4

from devices import services as devices
from retire_cluster.gateway.inputs import Effects
from retire_cluster.gateway.sessions import Session
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import AttemptState
from tasks import rules
from tasks.lifecycle import Ledger

logger = logging.getLogger("retire_cluster.gateway")

STOP_WITHIN_S = 30.0  # of being told to end an attempt a device has said how it ended
FORGOTTEN_AFTER_S = 3600.0  # past its time, what is about an attempt that nobody here holds any more


class Deadlines:
    """When attempts are out of time, and since when their devices know. Only the committer's thread touches it.

    Kept across connections: a device gains nothing by connecting anew. Times are monotonic.
    """

    def __init__(self) -> None:
        self._over_at: dict[UUID, float] = {}
        self._told_at: dict[UUID, float] = {}

    def follow(self, row: rules.AttemptRow, left_s: float | None) -> None:
        """An attempt changed. The first word on its time counts: later ones may come from a clock that jumped."""
        if not row.live:
            self._over_at.pop(row.id, None)
            self._told_at.pop(row.id, None)
        elif left_s is not None:
            self._over_at.setdefault(row.id, time.monotonic() + left_s)

    def told(self, attempts: Iterable[UUID]) -> None:
        """Their devices were told to end them; the first time counts."""
        for attempt_id in attempts:
            self._told_at.setdefault(attempt_id, time.monotonic())

    def know(self, attempts: Iterable[UUID]) -> bool:
        """Whether the devices of all of them were told."""
        return all(attempt_id in self._told_at for attempt_id in attempts)

    def start_anew(self) -> None:
        """After a pause of this process nobody is judged by time in which it did not listen."""
        self._told_at.clear()

    def overdue(self, attempts: Iterable[UUID]) -> set[UUID]:
        """Those that are out of time."""
        now = time.monotonic()
        return {item for item in attempts if self._over_at.get(item, now + 1) <= now}

    def unheeded(self, session: Session, *, lease_s: float) -> list[UUID]:
        """Attempts of the session that its device should have ended by now."""
        now = time.monotonic()
        told = {item: self._told_at[item] for item in session.attempts if item in self._told_at}
        return [
            attempt_id
            for attempt_id, told_at in told.items()
            if session.link.last_heard > told_at  # else it is out of reach, which is for its lease to judge
            and is_unheeded(now - told_at, now - session.opened_at, lease_s)
        ]

    def prune(self) -> None:
        """Forget attempts that ended elsewhere."""
        now = time.monotonic()
        for attempt_id, over_at in list(self._over_at.items()):
            if over_at + FORGOTTEN_AFTER_S < now:
                del self._over_at[attempt_id]
                self._told_at.pop(attempt_id, None)


def is_unheeded(told_s: float, connected_s: float, lease_s: float) -> bool:
    """Whether a device that was told so long ago, and is connected for so long, has had its time.

    One that just came back still sends what it did while it was away; it cannot have been away longer than a lease.
    """
    return told_s >= STOP_WITHIN_S and (connected_s >= STOP_WITHIN_S or told_s >= STOP_WITHIN_S + lease_s)


class Enforcement:
    """The deadlines in one transaction. Changed rows are left in the ledger, messages in the effects."""

    def __init__(self, deadlines: Deadlines, ledger: Ledger, effects: Effects, *, lease_s: float) -> None:
        self._deadlines = deadlines
        self._ledger = ledger
        self._effects = effects
        self._lease_s = lease_s

    def run(self, sessions: Sequence[Session]) -> list[Session]:
        """Tell and judge. Returns the sessions to close. From memory where everybody is in time."""
        cancelling = set(self._effects.cancelling)
        working = [session for session in sessions if session.attempts]
        for session in working:
            self._tell(session, cancelling)
        unheeded = [
            (session, attempt_id)
            for session in working
            for attempt_id in self._deadlines.unheeded(session, lease_s=self._lease_s)
        ]
        self._ledger.load_attempts(attempt_id for _, attempt_id in unheeded)
        defiant = {session.device_id: session for session, item in unheeded if self._overrule(session, item)}
        return list(defiant.values())

    def _tell(self, session: Session, cancelling: set[UUID]) -> None:
        running = {row.id for row in session.attempts.values() if row.state is AttemptState.RUNNING}
        overdue = self._deadlines.overdue(running) - cancelling
        for attempt_id in overdue - session.cancels_sent:
            session.cancels_sent.add(attempt_id)
            self._effects.say(session.link, wire.Cancel(attempt=attempt_id.hex, reason="timeout"))
        told = overdue | (running & cancelling)
        if not self._deadlines.know(told):
            # Whoever answers is in reach, whatever became of its work.
            self._effects.say(session.link, wire.Ping(nonce=uuid4().hex))
        self._effects.told += told

    def _overrule(self, session: Session, attempt_id: UUID) -> bool:
        """End the attempt on the server and take the device out of service; whether its connection ends too."""
        pair = self._ledger.pair(attempt_id)
        step = pair and rules.overrule(*pair, now=self._ledger.now)
        if not step or step.attempt.session != session.number:
            return False
        self._ledger.put(step)
        was_cancelled = step.task.cancel_requested_at is not None
        why = "although its task was cancelled" if was_cancelled else "although its time was over"
        reason = f"it did not stop attempt {step.attempt.no} of task {step.task.id}, {why}; see what it does"
        logger.warning(
            "%s is cordoned: %s",
            session.device_id,
            reason,
            extra={"action": "overrule", "device_id": session.device_id, "attempt": attempt_id.hex},
        )
        devices.take_out_of_service(session.device_id, reason=reason, now=self._ledger.now)
        if not was_cancelled:
            self._effects.say(session.link, wire.Stop(attempts=(attempt_id.hex,)))
        return was_cancelled
