"""What people want of connected devices and no message has said yet: cancels, pings, drains, removals.

All of it is derived from rows, on a hint and again each second, so a lost hint or frame costs a second.
"""

from collections.abc import Iterable
from uuid import UUID

from devices import pings
from devices import services as devices
from retire_cluster.gateway.inputs import Effects
from retire_cluster.gateway.sessions import Session, Sessions
from retire_cluster.protocol import messages as wire
from tasks import removal, rules, services
from tasks.lifecycle import Ledger

REMOVED = "an operator removed this device from the cluster"


class Intents:
    """The wishes of one transaction. Changed rows are left in the ledger, messages in the effects."""

    def __init__(self, sessions: Sessions, gateway_id: UUID, ledger: Ledger, effects: Effects) -> None:
        self._sessions = sessions
        self._gateway_id = gateway_id
        self._ledger = ledger
        self._effects = effects

    def deliver(self) -> None:
        """Look for all of them: one query each where nobody wants anything."""
        self._cancel()
        self._ping()
        self._end_drains()
        self._dismiss()

    def _cancel(self) -> None:
        live = [attempt_id for session in self._sessions.all() for attempt_id in session.attempts]
        for attempt_id, device_id in services.cancelling(live):
            self._effects.cancelling.append(attempt_id)
            session = self._sessions.by_device.get(device_id)
            if session is not None and attempt_id not in session.cancels_sent:
                session.cancels_sent.add(attempt_id)
                self._effects.say(session.link, wire.Cancel(attempt=attempt_id.hex))

    def _ping(self) -> None:
        for ping_id, device_id in pings.wanted(self._sessions.by_device, now=self._ledger.now):
            session = self._sessions.by_device[device_id]
            if ping_id not in session.pings:
                self._effects.pings_sent.append((session, ping_id))
                self._effects.say(session.link, wire.Ping(nonce=ping_id.hex))

    def _end_drains(self) -> None:
        overdue = devices.overdue_drains(self._gateway_id, now=self._ledger.now)
        busy = [session for session in self._of(overdue) if session.attempts]
        self._ledger.load_live_of(session.device_id for session in busy)
        for session in busy:
            reason = "the device is drained, and its time to finish is over"
            for task, attempt in self._ledger.pairs_of(session.device_id).values():
                self._withdraw(session, rules.withdraw(task, attempt, reason=reason, now=self._ledger.now))

    def _withdraw(self, session: Session, step: rules.Step | None) -> None:
        if step is None:
            return
        self._ledger.put(step)
        session.withdrawn.add(step.attempt.id)  # the agent still holds it: not to be adopted again
        self._effects.say(session.link, wire.Stop(attempts=(step.attempt.id.hex,)))

    def _dismiss(self) -> None:
        """Removed devices: whatever came to them after the removal goes back, and their agents are told."""
        removed = devices.to_dismiss(self._gateway_id)
        if not removed:
            return
        self._ledger.load_live_of(removed)
        for device_id in removed:
            for task, attempt in self._ledger.pairs_of(device_id).values():
                step = removal.give_back(task, attempt, reason=REMOVED, now=self._ledger.now)
                if step is not None:
                    self._ledger.put(step)
        for session in self._of(removed):
            self._effects.ended.append(session)
            self._effects.close.append((session.link, wire.Goodbye(code="revoked", reason=REMOVED)))
        devices.dismissed(removed)

    def _of(self, device_ids: Iterable[str]) -> list[Session]:
        found = (self._sessions.by_device.get(device_id) for device_id in device_ids)
        return [session for session in found if session is not None]
