"""The one thread through which a gateway writes.

Whatever arrives while a commit is in flight joins the next one: batches grow with the load and nobody lingers.
Commit, then act: messages, acknowledgements and wake-ups leave only after the commit they tell of.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from django.conf import settings
from django.db import (
    DatabaseError,
    DataError,
    InterfaceError,
    InternalError,
    OperationalError,
    connection,
)

from clusterconfig import services as config
from devices import pings, presence, samples
from devices import services as devices
from retire_cluster import db, disk, hints
from retire_cluster.gateway import budget, idle, quiet, translate
from retire_cluster.gateway.deadlines import Deadlines
from retire_cluster.gateway.ingest import Batch, Identity, PlacementFailed
from retire_cluster.gateway.inputs import Closed, Effects, Input, Received
from retire_cluster.gateway.sessions import Sessions
from retire_cluster.protocol import messages as wire
from tasks import history, sweep, waiting
from tasks.lifecycle import LostRace
from tasks.placement import Matcher

logger = logging.getLogger("retire_cluster.gateway")

MAX_BATCH = 2000  # frames in one transaction
MAX_BATCH_ROWS = 20_000  # about what its frames look up; the last one may go beyond
TICK_S = 1.0
CALL_S = 5.0  # between a gateway's signs of life to the others
RETRY_S = 0.5  # between tries while the database is away
TELL_AGAIN_S = 60.0  # between lines in the log about one absence
CLOSED_REASON = "the gateway counts this connection as lost; connect again"  # no matter to one that is gone
CUT_OFF = "the gateway cannot reach its database"
MAX_RACES = 20  # in a row; more means a defect, not bad luck
UNANSWERED_LIMIT = 3  # offers in a row a device may leave unanswered
MAX_PINGS_OPEN = 100  # per device; of more, the oldest answers do not matter any more
DEPTH_S = 60.0  # between two looks at the depth of the queue
# SQLite lives on SD cards: an idle cluster hardly writes.
_PLACING = {"action": "place"}
PRESENCE_FLUSH_S = {"sqlite": 300.0, "postgresql": 15.0}


class Committer(threading.Thread):
    """Takes inputs from the event loop, commits them in batches, hands the effects back.

    `deliver` is called in this thread after each commit. If the thread dies, `died` is called with the error.
    """

    def __init__(
        self,
        identity: Identity,
        deliver: Callable[[Effects], None],
        died: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name="retire-cluster-committer", daemon=True)
        self.sessions = Sessions()
        self.last_tick = time.monotonic()
        self.trouble = ""  # why nothing can be committed at the moment
        self.is_cut_off = False  # for so long that agents should try another gateway
        self._identity = identity
        self._deliver = deliver
        self._died = died
        self._queue: queue.SimpleQueue[Input | None] = queue.SimpleQueue()
        self._hinted = threading.Event()  # there may be work; None in the queue wakes the thread for it
        self._intended = threading.Event()  # somebody may want something of a device
        self._stopping = threading.Event()
        self._backlog = True
        self._watch = sweep.Watch()
        self._blind = False
        self._matcher = Matcher()
        self._deadlines = Deadlines()
        self._clock: db.Clock | None = None  # before the first look
        self._next_tick = 0.0
        self._shares = not db.is_sqlite()  # other gateways may live on this database
        self._next_call = 0.0
        self._next_depth = 0.0
        self._next_flush = time.monotonic() + PRESENCE_FLUSH_S[connection.vendor]

    def submit(self, item: Input) -> None:
        """Hand in something that arrived. Any thread; never blocks."""
        self._queue.put(item)

    def hint(self, kind: hints.Hint) -> None:
        """There may be something new in the database. Any thread; never blocks."""
        if kind in (hints.NEWS, hints.ENDED):
            return
        flag = self._hinted if kind == hints.WORK else self._intended
        if not flag.is_set():
            flag.set()
            self._queue.put(None)

    def stop(self) -> None:
        """Commit what is queued, then end. Join the thread afterwards."""
        self._stopping.set()
        self._queue.put(None)

    def run(self) -> None:
        try:
            while not (self._stopping.is_set() and self._queue.empty()):
                inputs = self._next_inputs()
                self._step(inputs)
            self._keep_measured(unfinished=True)
        except BaseException as error:
            self._died(error)
            raise
        finally:
            connection.close()

    # --- one step ---------------------------------------------------------------------------------------------

    def _next_inputs(self) -> list[Input]:
        wait = max(0.0, self._next_tick - time.monotonic())
        inputs: list[Input] = []
        try:
            first = self._queue.get(timeout=wait)
            if first is not None:
                inputs.append(first)
            rows = 0
            while len(inputs) < MAX_BATCH and rows < MAX_BATCH_ROWS:
                item = self._queue.get_nowait()
                if item is not None:
                    inputs.append(item)
                    rows += budget.rows_in(item.messages) if isinstance(item, Received) else 1
        except queue.Empty:
            pass
        return inputs

    def _step(self, inputs: Sequence[Input]) -> None:
        tick = time.monotonic() >= self._next_tick
        # Cleared before anything is read: what comes in from now on is seen by the next step.
        hinted, intended = self._hinted.is_set(), self._intended.is_set()
        self._hinted.clear()
        self._intended.clear()
        inputs = self._answer_quiet(inputs)
        if tick:
            self._next_tick = time.monotonic() + TICK_S
            # First: it brings along whether the settings are still those that are known.
            rests = not (inputs or hinted or intended) and self._rests()
            inputs = [*inputs, *self._silent()]
            if rests and not inputs:
                self._spread_config()
                self._after_tick()
                return
        place = hinted or tick or (self._backlog and bool(inputs))
        self._persist(inputs, tick=tick, place=place, intents=intended or tick)
        if intended or tick:
            self._spread_config()
        if tick:
            self._after_tick()

    def _rests(self) -> bool:
        """Whether this second needs no transaction."""
        if self._clock is None or self._blind:
            return False
        began = time.monotonic()
        try:
            seen = idle.look(self._identity.gateway_id, about=self._clock.now())
            config.confirm(seen.config_version, read_at=began)
            if seen.is_busy:
                return False
            self._clock = db.Clock(seen.now)
            self._blind = self._watch.blind(seen.now, time.monotonic())
            return not self._blind and self._has_called()
        except (DatabaseError, InterfaceError):
            return False  # whoever commits says so, and waits

    def _has_called(self) -> bool:
        """Tell the other gateways that this one lives, if it is time; False where more than that is to be done."""
        if not self._calls():
            return True
        gateway_id, now = self._identity.gateway_id, self._now()
        if not devices.gateway_is_seen(gateway_id, now=now) or devices.silent_gateways(now=now):
            return False
        self._next_call = time.monotonic() + CALL_S
        return True

    def _calls(self) -> bool:
        """Whether it is time for a sign of life to the other gateways."""
        return self._shares and time.monotonic() >= self._next_call

    def _now(self) -> datetime:
        """The database's clock as it was read last, carried on: with each second, as long as it answers."""
        return self._clock.now() if self._clock is not None else db.now()

    def _answer_quiet(self, inputs: Sequence[Input]) -> Sequence[Input]:
        """Deal with what needs no transaction; returns the rest."""
        if self._clock is None or not inputs:
            return inputs
        effects = Effects()
        left = quiet.take_out(inputs, self.sessions, self._clock.now(), effects)
        if effects.answered:
            self._deliver(effects)
        return left

    def _persist(self, inputs: Sequence[Input], *, tick: bool, place: bool, intents: bool) -> None:
        """Commit, whatever it takes: races are run again, an absent database is waited for, poison is isolated."""
        races = 0
        may_place = True
        absent_since: float | None = None
        tell_at = 0.0
        while True:
            began = time.monotonic()
            try:
                effects = self._commit(
                    inputs,
                    tick=tick,
                    place=place,
                    intents=intents,
                    from_memory=not races,
                    may_place=may_place,
                )
            except PlacementFailed as error:
                # Without it the rest is stored, or shows that the database is away.
                logger.warning(
                    "placement failed and is tried again: %s", error, exc_info=error, extra=_PLACING
                )
                may_place, self._backlog = False, True
            except LostRace:
                races += 1
                if races > MAX_RACES:
                    raise
            except (OperationalError, InterfaceError, InternalError) as error:
                if db.is_deadlock(error) and races < MAX_RACES:
                    races += 1
                    logger.info("a deadlock was dissolved; once more", extra={"action": "commit"})
                    continue
                if isinstance(error, InternalError) and not db.stood_still(error):
                    raise  # a defect; else the database ended a transaction that a paused process left open
                absent_since = absent_since or began
                if time.monotonic() >= tell_at:
                    tell_at = time.monotonic() + TELL_AGAIN_S
                    self._tell_absence(error, absent_since)
                self._wait_for_database(absent_since)
                if self._stopping.is_set():
                    return
            except DataError as error:
                self._isolate(inputs, error)
                return
            else:
                self._over(absent_since)
                self._act(effects)
                return

    def _commit(
        self,
        inputs: Sequence[Input],
        *,
        tick: bool,
        place: bool,
        intents: bool,
        from_memory: bool,
        may_place: bool,
    ) -> Effects | None:
        db.keep_plans()
        # Kept until a pass is committed: the watch itself is only blind once.
        blind = judge = False
        if tick:
            # Leases are judged by the clock as it is now: the machine may have slept since it was read.
            now = db.carried_now(afresh=True)
            self._blind |= self._watch.blind(now, time.monotonic())
            blind = self._blind
            judge = not blind and sweep.due(now)
        renewing = tick and bool(self.sessions.by_device)
        calling = tick and self._calls()
        if not (inputs or blind or judge or renewing or place or intents or calling):
            return None
        with db.write_transaction():
            batch = Batch(
                self.sessions, self._identity, self._deadlines, now=db.carried_now(), from_memory=from_memory
            )
            batch.apply(inputs)
            if tick:
                batch.tick(blind=blind, judge=judge)
            if calling:
                batch.roll_call(blind=blind)
            if intents:
                batch.deliver_intents()
            if tick and intents and not blind:
                batch.enforce()
            if may_place and (place or batch.effects.opened):
                batch.place(self._matcher)
        self._clock = db.Clock(batch.now)
        self._blind &= not blind
        if calling:
            self._next_call = time.monotonic() + CALL_S
        if blind:
            self._deadlines.start_anew()
        return batch.effects

    def _act(self, effects: Effects | None) -> None:
        """After the commit: follow it in memory, tell whoever waits, send."""
        if effects is None:
            return
        told = {id(link) for link, _ in effects.close}
        for session in effects.ended:
            self.sessions.close(session)
            if id(session.link) not in told:
                effects.close.append((session.link, wire.Goodbye(code="unavailable", reason=CLOSED_REASON)))
        for session in effects.opened:
            old = self.sessions.open(session)
            if old is not None:
                reason = "the same device connected again"
                effects.close.append((old.link, wire.Goodbye(code="replaced", reason=reason)))
        for session, words in effects.pauses:
            session.stored_pause = words
        for session in effects.cordoned:
            session.streak.end()  # an operator who uncordons it gives it a new chance
        for row in effects.changed:
            self.sessions.remember(row, effects.changed_tasks)
            self._deadlines.follow(row, effects.time_left.get(row.id))
        self.sessions.remember_tasks(effects.changed_tasks)
        self._deadlines.told(effects.told)
        self._follow_pings(effects)
        if effects.placed:
            self._backlog = effects.work_may_remain
        if effects.finished:
            waiting.ended(effects.finished)
        self._deliver(effects)

    def _follow_pings(self, effects: Effects) -> None:
        """Start the clocks of pings that leave now, and tell whoever waits for those that ended."""
        for session, ping_id in effects.pings_sent:
            while len(session.pings) >= MAX_PINGS_OPEN:
                del session.pings[next(iter(session.pings))]
            session.pings[ping_id] = time.monotonic()
        for session, ping_id in effects.pings_ended:
            session.pings.pop(ping_id, None)
        pings.waiters.ended(ping_id for _, ping_id in effects.pings_ended)

    # --- the clock --------------------------------------------------------------------------------------------

    def _silent(self) -> list[Input]:
        """Devices that were not heard of for too long, or leave offers unanswered, as closed connections."""
        now = time.monotonic()
        long_ago = now - config.current().heartbeat.silence
        closed: list[Input] = []
        for session in self.sessions.by_device.values():
            if session.link.last_heard < long_ago:
                quiet = now - session.link.last_heard
                closed.append(Closed(session.link, f"nothing was heard of it for {quiet:.0f} s"))
            elif session.unanswered >= UNANSWERED_LIMIT:
                closed.append(
                    Closed(session.link, f"it left {session.unanswered} offers in a row unanswered")
                )
        return closed

    def _after_tick(self) -> None:
        self.last_tick = time.monotonic()
        if self.last_tick >= self._next_flush:
            self._next_flush = self.last_tick + PRESENCE_FLUSH_S[connection.vendor]
            self._keep_measured()
            self._deadlines.prune()
        if self.last_tick >= self._next_depth:
            self._next_depth = self.last_tick + DEPTH_S
            self._kept(lambda: history.note_depth(self._now()))

    def _keep_measured(self, *, unfinished: bool = False) -> None:
        """Write signs of life and measurements; without the database it is tried again the next time."""
        self._kept(presence.flush)
        self._kept(lambda: samples.flush(self._now(), unfinished=unfinished))

    def _kept(self, write: Callable[[], object]) -> None:
        try:
            write()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("signs of life cannot be written: %s", error, extra={"action": "presence"})
            connection.close()

    def _spread_config(self) -> None:
        """Tell the agents that are behind which settings are in force."""
        current = config.current()
        sessions = self.sessions.by_device.values()
        behind = [session for session in sessions if session.config_version != current.version]
        if not behind:
            return
        effects = Effects()
        for session in behind:
            session.config_version = current.version
            effects.say(session.link, wire.Config(version=current.version, pulse=translate.pulse(current)))
        self._deliver(effects)

    # --- trouble ----------------------------------------------------------------------------------------------

    def _tell_absence(self, error: Exception, absent_since: float) -> None:
        """Say, and keep for who asks how the gateway is, why nothing is committed."""
        if disk.is_refusal(error):
            self.trouble = disk.words(settings.DATA_DIR, error)
        else:
            self.trouble = f"the database does not answer: {error}"
        absent = time.monotonic() - absent_since
        logger.error(
            "nothing is committed (for %.0f s): %s", absent, self.trouble, extra={"action": "commit"}
        )

    def _wait_for_database(self, absent_since: float) -> None:
        connection.close()
        if time.monotonic() - absent_since > config.current().heartbeat.silence / 2:
            self.is_cut_off = True
            self._send_away()
        self._stopping.wait(RETRY_S)

    def _over(self, absent_since: float | None) -> None:
        if absent_since is not None:
            self.trouble, self.is_cut_off = "", False
            absent = time.monotonic() - absent_since
            logger.warning("the database works again, after %.0f s", absent, extra={"action": "commit"})

    def _send_away(self) -> None:
        """Agents keep their results and try another gateway, or this one again later."""
        effects = Effects()
        for session in self.sessions.all():
            effects.close.append((session.link, wire.Goodbye(code="unavailable", reason=CUT_OFF)))
        self._deliver(effects)

    def _isolate(self, inputs: Sequence[Input], error: DataError) -> None:
        """A row the database refuses: halve the batch until it stands alone, then record that it cannot be kept."""
        if len(inputs) > 1:
            middle = len(inputs) // 2
            for part in (inputs[:middle], inputs[middle:]):
                self._persist(part, tick=False, place=False, intents=False)
            return
        if not inputs:
            raise error
        (item,) = inputs
        logger.error("the database refuses %s: %s", type(item).__name__, error, extra={"action": "commit"})
        if isinstance(item, Received):
            self._persist([_without_content(item)], tick=False, place=False, intents=False)


def _without_content(item: Received) -> Received:
    """The same frame, its results replaced by the statement that they cannot be stored."""
    messages = tuple(
        replace(message, result_json="unstorable", error_message=None, error_traceback=None)
        if isinstance(message, wire.Result)
        else message
        for message in item.messages
        if isinstance(message, (wire.Result, wire.Accepted, wire.Heartbeat))
    )
    return Received(item.link, messages)
