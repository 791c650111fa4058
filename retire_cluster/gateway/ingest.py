"""One batch of what agents said, in one transaction: every message becomes one rule applied to rows.

Frames and acknowledgements are collected in Effects and leave after the commit. Placement runs last, on the
capacity the batch just freed; where it fails, the batch is done again without it, so that it never costs a result.
"""

import logging
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError

from clusterconfig import services as config
from devices import operations, pings, presence, samples
from devices import services as devices
from retire_cluster import __version__
from retire_cluster.gateway import streaks, translate
from retire_cluster.gateway.deadlines import Deadlines, Enforcement
from retire_cluster.gateway.inputs import Closed, Effects, Input, Opened, Received
from retire_cluster.gateway.intents import Intents
from retire_cluster.gateway.quiet import measured
from retire_cluster.gateway.sessions import Link, Session, Sessions
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import AttemptState, DeviceLossPolicy, HeldState, Outcome, Verdict
from tasks import output, placement, removal, reservations, rules, sweep
from tasks.lifecycle import Ledger, LostRace
from tasks.reconcile import Action, Wish, at_heartbeat, at_register

logger = logging.getLogger("retire_cluster.gateway")

BATTERY_GRACE_FACTOR = 3  # phones that sleep need longer to come back


class PlacementFailed(RuntimeError):
    """Nothing of the batch is stored."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this gateway is. `reusable_token` is the operator's own join token, if one is set."""

    gateway_id: UUID
    incarnation: UUID
    reusable_token: str = ""


class Batch:
    """The work of one transaction. Make one inside it, apply inputs and clock, then carry out the effects."""

    def __init__(
        self,
        sessions: Sessions,
        identity: Identity,
        deadlines: Deadlines,
        *,
        now: datetime,
        from_memory: bool = True,
    ) -> None:
        """`from_memory`: take rows as this gateway stored them last, as far as it knows them."""
        self._from_memory = from_memory
        self.effects = Effects()
        self._deadlines = deadlines
        self._ledger = Ledger(now)
        self._sessions = sessions
        self._identity = identity
        self._registrar = devices.Registrar(
            gateway_id=identity.gateway_id, now=self._ledger.now, reusable_token=identity.reusable_token
        )
        self._settings = config.current()
        self._opening: dict[int, Session] = {}
        self._printed: list[output.Piece] = []
        self._printed_acks: dict[tuple[str, str], tuple[Link, int]] = {}
        self._heard: dict[str, Session] = {}  # whose heartbeats are in this batch
        self._failing: dict[str, Session] = {}  # on which a task failed in this batch
        self._members: dict[str, bool] = {}  # of devices asked about in this batch

    @property
    def now(self) -> datetime:
        """The database's clock as the transaction began."""
        return self._ledger.now

    def apply(self, inputs: Sequence[Input]) -> None:
        """Apply the inputs in order of arrival and store what changed."""
        self._preload(inputs)
        for item in inputs:
            match item:
                case Opened():
                    self._open(item)
                case Received():
                    self._receive(item)
                    self.effects.answered.append(item.link)
                case Closed():
                    self._close(item)
        self._registrar.store()
        self._store()
        # So that the table knows them even if this process is killed.
        presence.flush(only=[session.device_id for session in (*self.effects.opened, *self.effects.ended)])
        self._store_pauses()
        self._cordon_failing()

    def _preload(self, inputs: Sequence[Input]) -> None:
        """Read every row the batch may need in a few statements."""
        named: set[str] = set()
        devices_of: set[str] = set()
        arriving: list[str] = []
        for item in inputs:
            if isinstance(item, Opened):
                named.update(held.attempt for held in item.message.held)
                devices_of.add(item.message.device_id)
                arriving.append(item.message.device_id)
                continue
            session = self._sessions.of(item.link)
            if session is None:
                continue
            if isinstance(item, Closed):
                devices_of.add(session.device_id)
                continue
            for message in item.messages:
                named.update(self._unknown(session, message))
                if isinstance(message, wire.Heartbeat) and session.attempts:
                    devices_of.add(session.device_id)
        self._ledger.load_attempts(map(UUID, named))
        self._ledger.load_live_of(devices_of)
        presence.adopt_stored(arriving)
        # Who is connected here already may be changed by what comes before in this batch.
        self._registrar.expect([name for name in arriving if name not in self._sessions.by_device])

    def _unknown(self, session: Session, message: wire.Message) -> list[str]:
        """The attempts a message names whose rows have to be read."""
        names = list(translate.attempts_in(message))
        if not self._from_memory or isinstance(message, wire.Heartbeat):
            return names  # with a heartbeat both sides compare what there is
        known = {name: self._sessions.known(session, UUID(name)) for name in names}
        for pair in filter(None, known.values()):
            self._ledger.know(*pair)
        return [name for name, pair in known.items() if pair is None]

    def _store(self) -> None:
        self._store_output()  # first, so that who follows a task has its output when it ends
        self._ledger.flush()
        self.effects.finished = self._ledger.finished
        self.effects.changed = list(self._ledger.stored.values())
        self.effects.changed_tasks.update(self._ledger.stored_tasks)
        for row in self.effects.changed:
            task = self._ledger.task(row.task_id)
            left = None if task is None else rules.time_left_s(task, row, now=self._ledger.now)
            if left is not None:
                self.effects.time_left[row.id] = left

    def _store_output(self) -> None:
        output.append(self._printed, now=self._ledger.now)
        for (_, attempt), (link, number) in self._printed_acks.items():
            self.effects.say(link, wire.OutputAck(attempt=attempt, number=number))
        self._printed.clear()
        self._printed_acks.clear()

    def _store_pauses(self) -> None:
        """Other processes read them from the rows; most heartbeats say nothing new. By id, as all lock devices."""
        for device_id, session in sorted(self._heard.items()):
            if session.paused != session.stored_pause:
                devices.note_pause(device_id, session.number, session.paused)
                self.effects.pauses.append((session, session.paused))

    def _cordon_failing(self) -> None:
        """Take devices out of service on which everything fails, while others show that it is not the tasks."""
        now = time.monotonic()
        for device_id, session in sorted(self._failing.items()):
            if session.streak.length(now) < streaks.FAILURES:
                continue
            able = [item.device_id for item in self._sessions.all() if item.works(self._ledger.now)]
            if operations.cordon_failing(device_id, reason=streaks.REASON, able=able):
                self.effects.cordoned.append(session)
                facts = {"action": "cordon", "device_id": device_id}
                logger.warning("%s is cordoned: %s", device_id, streaks.REASON, extra=facts)

    def _put(self, step: rules.Step | None) -> None:
        if step is not None:
            self._ledger.put(step)

    def _own(self, session: Session, attempt_id: str) -> tuple[rules.TaskRow, rules.AttemptRow] | None:
        """An attempt the device may speak about: one of its own, of whatever session."""
        pair = self._ledger.pair(UUID(attempt_id))
        return pair if pair is not None and pair[1].device_id == session.device_id else None

    def _lose(self, pair: tuple[rules.TaskRow, rules.AttemptRow], reason: str) -> None:
        limit = self._settings.scheduler.max_device_losses
        self._put(rules.lose(*pair, reason=reason, now=self._ledger.now, max_losses=limit))

    def _session_of(self, link: Link) -> Session | None:
        return self._opening.get(id(link)) or self._sessions.of(link)

    # --- connections ------------------------------------------------------------------------------------------

    def _open(self, item: Opened) -> None:
        message = item.message
        try:
            registration = self._registrar.register(message, address=item.link.address)
        except devices.Refused as refusal:
            self._sessions.complaints.log(
                item.link.address,
                "refused %s at %s: %s",
                message.device_id,
                item.link.address,
                refusal.reason,
                action="register",
                code=refusal.code,
            )
            self.effects.close.append((item.link, wire.Goodbye(code=refusal.code, reason=refusal.reason)))  # type: ignore[arg-type]
            return
        session = self._session(item.link, registration)
        self.effects.opened.append(session)
        self._opening[id(item.link)] = session
        self.effects.say(item.link, self._welcome(registration))
        held = translate.held_list(message.held)
        device_id = registration.device.id
        rows = self._ledger.pairs_of(device_id, held)
        self._carry_out(session, at_register(device_id, held, rows))
        self._reconcile(session, held)
        self._note_presence(session, message.metrics, heartbeat=False)

    def _session(self, link: Link, registration: devices.Registration) -> Session:
        totals = reservations.view_of(registration.device)
        return Session(
            link,
            totals,
            secret_confirmed=registration.secret is None,
            paused=registration.device.paused_reason,
            stored_pause=registration.device.paused_reason,
            config_version=self._settings.version,
        )

    def _welcome(self, registration: devices.Registration) -> wire.Welcome:
        return wire.Welcome(
            protocol=wire.PROTOCOL_VERSION,
            device_id=registration.device.id,
            session=registration.device.session,
            server_version=__version__,
            incarnation=self._identity.incarnation.hex,
            pulse=translate.pulse(self._settings),
            config_version=self._settings.version,
            secret=registration.secret,
            link_no=registration.device.session,
        )

    def _close(self, item: Closed) -> None:
        session = self._session_of(item.link)
        if session is None:
            return
        self.effects.ended.append(session)
        devices.disconnect(session.device_id, session.number, reason=item.reason, now=self._ledger.now)
        until = self._ledger.now + timedelta(seconds=self._grace_s(session, stopping=item.stopping))
        for task, attempt in self._ledger.pairs_of(session.device_id).values():
            if attempt.session != session.number:
                continue
            step = (
                rules.hand_back(task, attempt, reason=item.reason, now=self._ledger.now)
                if item.orderly
                else rules.shorten(task, attempt, session=session.number, until=until)
            )
            self._put(step)
        for ping_id in session.pings:
            if pings.fail(ping_id, "the connection was lost before the answer", now=self._ledger.now):
                self.effects.pings_ended.append((session, ping_id))

    def _grace_s(self, session: Session, *, stopping: bool) -> float:
        """How long the attempts of a closed connection wait for the device to return."""
        if stopping:
            return sweep.FLOOR_S  # not the device's fault
        factor = BATTERY_GRACE_FACTOR if session.totals.on_battery else 1
        return self._settings.heartbeat.reconnect_grace * factor

    # --- messages ---------------------------------------------------------------------------------------------

    def _receive(self, item: Received) -> None:
        session = self._session_of(item.link)
        if session is None:
            return  # refused, or replaced by a newer connection, on which the agent sends its results again
        if not session.secret_confirmed:
            devices.confirm_secret(session.device_id)
            session.secret_confirmed = True
        for message in item.messages:
            if isinstance(message, wire.Pong):
                self._pong(session, UUID(message.nonce), item.heard_at)
            else:
                self._dispatch(session, message)

    def _pong(self, session: Session, ping_id: UUID, heard_at: float) -> None:
        sent_at = session.pings.get(ping_id)
        if sent_at is None:
            return
        milliseconds = (heard_at - sent_at) * 1000
        if pings.answer(ping_id, session.device_id, milliseconds, now=self._ledger.now):
            self.effects.pings_ended.append((session, ping_id))

    def _dispatch(self, session: Session, message: wire.Message) -> None:
        match message:
            case wire.LinkStored() if message.link_no == session.number:
                devices.confirm_link(session.device_id, session.number)
            case wire.Heartbeat():
                self._heartbeat(session, message)
            case wire.Accepted():
                self._accepted(session, message)
            case wire.Declined():
                self._declined(session, message)
            case wire.Result():
                self._result(session, message)
            case wire.Progress():
                self._progress(session, message)
            case wire.Output():
                self._output(session, message)
            case wire.Stopped():
                self._stopped(session, message)
            case wire.Leave():
                self._leave(session)
            case wire.Ping():
                self.effects.say(session.link, wire.Pong(nonce=message.nonce))
            case wire.Error():
                self._complain(
                    session,
                    "%s could not use a message: %s %s",
                    message.field,
                    message.reason,
                    action="error",
                )

    def _heartbeat(self, session: Session, message: wire.Heartbeat) -> None:
        metrics = self._note_presence(session, message.metrics, heartbeat=True)
        samples.note(session.device_id, metrics, running=session.running, now=self._ledger.now)
        session.paused = devices.pause_words(message.paused_reason)
        self._heard[session.device_id] = session
        held = translate.held_list(message.held)
        if held or session.attempts:
            self._reconcile(session, held)
        self.effects.say(session.link, wire.HeartbeatAck())

    def _accepted(self, session: Session, message: wire.Accepted) -> None:
        session.unanswered = session.declined = 0
        for attempt_id in message.attempts:
            pair = self._own(session, attempt_id)
            step = pair and rules.accept(
                *pair, session=session.number, now=self._ledger.now, lease_s=self._settings.heartbeat.silence
            )
            if not step:
                continue
            self._ledger.put(step)
            if step.task.cancel_requested_at is not None:
                self.effects.say(session.link, wire.Cancel(attempt=attempt_id))
            elif step.task.on_device_loss is DeviceLossPolicy.FAIL:
                self.effects.say(session.link, wire.Go(attempts=(attempt_id,)))

    def _declined(self, session: Session, message: wire.Declined) -> None:
        session.hold(time.monotonic())
        pair = self._own(session, message.attempt)
        if pair is not None and pair[1].state is AttemptState.OFFERED and pair[1].session == session.number:
            self._lose(pair, f"the device declined: {message.reason}")

    def _result(self, session: Session, message: wire.Result) -> None:
        session.unanswered = 0
        pair = self._own(session, message.attempt)
        verdict = Verdict.UNKNOWN
        if pair is None:
            self._complain(
                session, "%s reported attempt %s, which is not its own", message.attempt, action="result"
            )
        else:
            jitter = random.uniform(0.5, 1)  # noqa: S311 spreads retries, guards nothing
            step = rules.finish(*pair, translate.report(message), now=self._ledger.now, jitter=jitter)
            self._ledger.put(step)
            self._note_end(session, pair[1], step.attempt)
            verdict = step.verdict or verdict
        self.effects.say(session.link, wire.ResultAck(attempt=message.attempt, verdict=verdict))

    def _progress(self, session: Session, message: wire.Progress) -> None:
        pair = self._own(session, message.attempt)
        if pair is not None:
            self._put(
                rules.advance(*pair, session=session.number, percent=message.percent, message=message.message)
            )

    def _output(self, session: Session, message: wire.Output) -> None:
        """Of whatever session: what was printed stays true, and the agent keeps it until it is told."""
        pair = self._own(session, message.attempt)
        if pair is not None:
            self._printed.append(_piece(pair, message))
        self._printed_acks[session.device_id, message.attempt] = (session.link, message.number + 1)

    def _note_end(self, session: Session, before: rules.AttemptRow, after: rules.AttemptRow) -> None:
        if before.live and after.outcome is not None:
            session.streak.note(after.task_id, after.outcome, after.ran_s or 0.0, time.monotonic())
            if after.outcome is Outcome.FAILED:
                self._failing[session.device_id] = session

    def _stopped(self, session: Session, message: wire.Stopped) -> None:
        for attempt_id in message.attempts:
            session.withdrawn.discard(UUID(attempt_id))
            pair = self._own(session, attempt_id)
            if pair is not None:
                self._put(rules.confirm(*pair))

    def _leave(self, session: Session) -> None:
        """The device goes for good. Its tasks are stored first: everybody locks tasks before devices."""
        device_id = session.device_id
        self._ledger.load_live_of([device_id])
        for task, attempt in self._ledger.pairs_of(device_id).values():
            self._put(removal.give_back(task, attempt, reason=operations.LEFT, now=self._ledger.now))
        self._store()
        operations.leave(device_id, address=session.link.address)
        devices.dismissed([device_id])  # it is told here
        self.effects.ended.append(session)
        self.effects.close.append((session.link, wire.Goodbye(code="left", reason=operations.LEFT)))
        logger.info("%s left the cluster", device_id, extra={"action": "leave", "device_id": device_id})

    def _complain(self, session: Session, message: str, *args: object, action: str) -> None:
        name = session.device_id
        self._sessions.complaints.log(name, message, name, *args, action=action, device_id=name)

    # --- reconciling ------------------------------------------------------------------------------------------

    def _reconcile(self, session: Session, held: dict[UUID, HeldState]) -> None:
        rows = self._ledger.pairs_of(session.device_id, held)
        overdue = self._deadlines.overdue(held)
        self._carry_out(session, at_heartbeat(session.device_id, session.number, held, rows, overdue))

    def _carry_out(self, session: Session, actions: Iterable[Action]) -> None:
        for action in list(actions):
            pair = self._ledger.pair(action.attempt)
            now, lease_s = self._ledger.now, self._settings.heartbeat.silence
            match action.wish:
                case Wish.STOP:
                    self.effects.say(session.link, wire.Stop(attempts=(action.attempt.hex,)))
                case Wish.GO:
                    self.effects.say(session.link, wire.Go(attempts=(action.attempt.hex,)))
                case Wish.CANCEL:
                    self.effects.say(session.link, wire.Cancel(attempt=action.attempt.hex))
                case Wish.TIME_OUT:
                    self.effects.say(session.link, wire.Cancel(attempt=action.attempt.hex, reason="timeout"))
                case Wish.LOSE if pair:
                    self._lose(pair, "the device does not hold it any more")
                case Wish.MOVE if pair:
                    self._put(rules.move(*pair, session=session.number, now=now, lease_s=lease_s))
                case Wish.ACCEPT if pair:
                    self._put(rules.accept(*pair, session=session.number, now=now, lease_s=lease_s))
                case Wish.ADOPT if action.attempt in session.withdrawn or self._is_removed(session):
                    self.effects.say(session.link, wire.Stop(attempts=(action.attempt.hex,)))
                case Wish.ADOPT if pair:
                    self._put(rules.adopt(*pair, session=session.number, now=now, lease_s=lease_s))

    def _is_removed(self, session: Session) -> bool:
        """Whether an operator removed the device, and its agent was not told yet."""
        if session.device_id not in self._members:
            self._members[session.device_id] = devices.is_member(session.device_id)
        return not self._members[session.device_id]

    # --- the clock and the queue ------------------------------------------------------------------------------

    def tick(self, *, blind: bool, judge: bool) -> None:
        """Renew the leases of devices that were heard of; then judge, or, while blind, keep others from judging."""
        self._renew()
        if blind:
            sweep.floor_leases(self._ledger)
        elif judge:
            for device_id, number in sweep.judge(self._ledger):
                session = self._sessions.by_device.get(device_id)
                if session is not None and session.number == number:
                    session.unanswered += 1
        self._store()

    def roll_call(self, *, blind: bool) -> None:
        """Where several gateways share a database: say that this one lives, and find those that do not."""
        if not devices.gateway_lives(self._identity.gateway_id, now=self._ledger.now):
            # Others gave it up while it could not speak, and may have its devices by now: all begin anew.
            self.effects.ended += self._sessions.all()
        if not blind:
            sweep.bury_silent_gateways(self._ledger)
        self._store()

    def _renew(self) -> None:
        term = self._settings.heartbeat.silence
        half = self._ledger.now + timedelta(seconds=term / 2)
        due = {row.id: session for session in self._sessions.all() for row in session.renewable(half)}
        self._ledger.load_attempts(due)
        for attempt_id, session in due.items():
            pair = self._ledger.pair(attempt_id)
            if pair is not None and pair[1].session == session.number:
                silent = time.monotonic() - session.link.last_heard
                self._put(rules.renew(*pair, until=self._ledger.now + timedelta(seconds=term - silent)))

    def deliver_intents(self) -> None:
        """Do what people want of devices and no message has said yet."""
        Intents(self._sessions, self._identity.gateway_id, self._ledger, self.effects).deliver()
        self._store()

    def enforce(self) -> None:
        """Hold connected devices to time limits and cancels; part a blind pass leaves out. After the intents."""
        lease_s = self._settings.heartbeat.silence
        enforcement = Enforcement(self._deadlines, self._ledger, self.effects, lease_s=lease_s)
        defiant = enforcement.run(self._open_sessions())
        self._ledger.load_live_of(session.device_id for session in defiant)
        for session in defiant:
            self._close(Closed(session.link, "it did not stop what it was told to"))
        self._store()

    def place(self, matcher: placement.Matcher) -> None:
        """Fill what is free. Raises PlacementFailed: then the batch is to be done again without it."""
        touched = {row.device_id for row in self._ledger.stored.values()}
        views = [session.view(stale=session.device_id in touched) for session in self._open_sessions()]
        self.effects.placed = True
        ledger = Ledger(self._ledger.now)
        try:
            claims, self.effects.work_may_remain = placement.place(ledger, views, matcher)
            ledger.flush()
        except (DatabaseError, LostRace) as error:
            raise PlacementFailed(str(error)) from error
        self.effects.changed += ledger.stored.values()
        self.effects.changed_tasks.update(ledger.stored_tasks)
        for claim in claims:
            self._assign(claim)

    def _open_sessions(self) -> list[Session]:
        """The sessions as they will be after the commit."""
        by_device = dict(self._sessions.by_device)
        for session in self.effects.ended:
            if by_device.get(session.device_id) is session:
                del by_device[session.device_id]
        by_device.update((session.device_id, session) for session in self.effects.opened)
        ended = {id(session) for session in self.effects.ended}  # their fields are many, and so may they be
        return [session for session in by_device.values() if id(session) not in ended]

    def _assign(self, claim: placement.Claim) -> None:
        opened = {session.device_id: session for session in self.effects.opened}
        session = opened.get(claim.device_id) or self._sessions.by_device[claim.device_id]
        self.effects.say(session.link, translate.assign(claim))

    def _note_presence(self, session: Session, metrics: wire.Metrics, *, heartbeat: bool) -> dict[str, Any]:
        """Take over a sign of life; returns what the device measured."""
        values = measured(metrics)
        session.note_metrics(values)
        presence.note(session.device_id, values, now=self._ledger.now, heartbeat=heartbeat)
        return values


def _piece(pair: tuple[rules.TaskRow, rules.AttemptRow], message: wire.Output) -> output.Piece:
    task, attempt = pair
    return output.Piece(task.id, attempt.no, message.number, message.stream, message.text, message.left_out)
