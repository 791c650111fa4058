"""A bounded explicit-state model of the life cycle: one task, two devices, every order of what can happen.

The model owns the world (links, frames, crashes, the clock's whims); every decision is made by the product's own
code: tasks/rules.py and tasks/reconcile.py on the server's side, agent/ledger.py on the device's. What carries the
decisions out mirrors gateway/ingest.py and agent/workbench.py. Faults come from small budgets, everything else may
happen at any moment; the explorer visits every state that can so be reached.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Literal, NamedTuple
from uuid import UUID

from retire_cluster.agent import ledger as agent
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.states import (
    AttemptState,
    DeviceLossPolicy,
    HeldState,
    Outcome,
    TaskStatus,
    Verdict,
)
from tasks import reconcile, rules
from tasks.reconcile import Wish

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TASK = UUID(int=999)
DEVICES = ("left", "right")
MAX_ATTEMPTS = 3
MAX_FRAMES = 3  # in one direction of one link
MAX_LOSSES = 1
# A living link loses none of these: a result goes again with each new link, the rest begins one.
KEPT = (wire.Welcome, wire.Result, wire.ResultAck)
FAIR_STEPS = 400  # more than any run without faults needs

# What tasks do: end by themselves, only when they are killed, or not at all, on devices that obey nobody.
Work = Literal["ends", "hangs", "defies"]
Rows = dict[UUID, tuple[rules.TaskRow, rules.AttemptRow]]


class Violation(AssertionError):
    """An invariant does not hold; the message tells the way there."""


class Budget(NamedTuple):
    """What may still go wrong, and what people may still ask for."""

    breaks: int = 0  # of a link
    drops: int = 0  # of a frame
    repeats: int = 0  # of a frame
    crashes: int = 0  # of an agent
    expiries: int = 0  # of a lease, early
    cancels: int = 0
    retries: int = 0
    withdrawals: int = 0  # a drain's deadline takes the task from its device
    overruns: int = 0  # an attempt is out of time
    verdicts: int = 0  # the server's patience ends with a device that was told to stop
    beats: int = 1  # heartbeats; without faults there are always more


class Agent(NamedTuple):
    """One device: its ledger taken apart, what its executor does, and its end of the link."""

    waiting: tuple[wire.Assign, ...] = ()
    running: tuple[str, ...] = ()
    finished: tuple[wire.Result, ...] = ()
    over: tuple[tuple[str, agent.Mark], ...] = ()
    executing: tuple[tuple[str, str], ...] = ()  # (attempt, "" or the reason of the kill)
    dialled: bool = False  # its end of the link is open
    welcome: bool = False  # and it was told so

    @property
    def holds(self) -> bool:
        return bool(self.waiting or self.running or self.finished)


class Link(NamedTuple):
    """The server's end of a device's link, and the frames under way."""

    session: int = 0
    open: bool = False
    down: tuple[wire.Message, ...] = ()  # to the agent
    up: tuple[wire.Message | tuple[tuple[UUID, HeldState], ...], ...] = ()  # a held list is a register


class State(NamedTuple):
    task: rules.TaskRow
    attempts: tuple[rules.AttemptRow, ...] = ()
    agents: tuple[Agent, ...] = (Agent(), Agent())
    links: tuple[Link, ...] = (Link(), Link())
    copies: tuple[tuple[int, wire.Assign], ...] = ()  # frames that will come once more, at any time
    started: tuple[str, ...] = ()  # every start of work, in order
    overdue: tuple[UUID, ...] = ()  # attempts out of time, as the gateway remembers
    overruled: tuple[UUID, ...] = ()  # ended by the server, since their device did not stop
    work: Work = "ends"
    budget: Budget = Budget()


def initial(policy: DeviceLossPolicy, budget: Budget, work: Work = "ends") -> State:
    """A queued task; both devices are connected."""
    task = rules.TaskRow(
        id=TASK,
        status=TaskStatus.QUEUED,
        round=1,
        attempt_no=0,
        rank=0,
        ready_at=NOW,
        cancel_requested_at=None,
        cancel_requested_by="",
        failures=0,
        losses=0,
        avoid_device="",
        device_id="",
        assigned_at=None,
        started_at=None,
        finished_at=None,
        execution_s=None,
        result_attempt=None,
        version=0,
        timeout_s=300,
        max_retries=0,
        on_device_loss=policy,
    )
    connected, link = Agent(dialled=True, welcome=True), Link(session=1, open=True)
    return State(task, agents=(connected, connected), links=(link, link), work=work, budget=budget)


@dataclass
class World:
    """One state taken apart, changed by one event, and put together again."""

    state: State
    task: rules.TaskRow = field(init=False)
    attempts: dict[UUID, rules.AttemptRow] = field(init=False)
    agents: list[Agent] = field(init=False)
    links: list[Link] = field(init=False)
    copies: tuple[tuple[int, wire.Assign], ...] = field(init=False)
    started: list[str] = field(init=False)
    overdue: list[UUID] = field(init=False)
    overruled: list[UUID] = field(init=False)
    budget: Budget = field(init=False)
    full: bool = False  # a link holds more frames than the model follows

    def __post_init__(self) -> None:
        self.task = self.state.task
        self.attempts = {row.id: row for row in self.state.attempts}
        self.agents, self.links = list(self.state.agents), list(self.state.links)
        self.copies = self.state.copies
        self.started, self.budget = list(self.state.started), self.state.budget
        self.overdue, self.overruled = list(self.state.overdue), list(self.state.overruled)

    def frozen(self) -> State:
        rows = sorted(self.attempts.values(), key=lambda row: row.no + 10 * row.round)
        return State(
            self.task if self.task.version == 0 else self.task._replace(version=0),
            tuple(_worded_alike(row) for row in rows),
            tuple(self.agents),
            tuple(self.links),
            self.copies,
            tuple(self.started),
            tuple(item for item in self.overdue if self.attempts[item].live),
            tuple(self.overruled),
            self.state.work,
            self.budget,
        )

    # --- the server -----------------------------------------------------------------------------------------

    def put(self, step: rules.Step | None) -> None:
        if step is not None:
            self.task = step.task
            self.attempts[step.attempt.id] = step.attempt

    def pair(self, attempt: UUID) -> tuple[rules.TaskRow, rules.AttemptRow] | None:
        row = self.attempts.get(attempt)
        return None if row is None else (self.task, row)

    def say(self, device: int, message: wire.Message) -> None:
        """To the agent, if its end of the link is still there."""
        link, there = self.links[device], self.agents[device].dialled
        if there and message not in link.down:
            self.links[device] = link._replace(down=(*link.down, message))
            self.full |= len(link.down) >= MAX_FRAMES

    def lose(self, attempt: UUID, reason: str = "lost") -> None:
        pair = self.pair(attempt)
        if pair is not None:
            self.put(rules.lose(*pair, reason=reason, now=NOW, max_losses=MAX_LOSSES))

    def withdraw(self, attempt: UUID) -> None:
        pair = self.pair(attempt)
        if pair is not None:
            self.put(rules.withdraw(*pair, reason="drained", now=NOW))

    def time_out(self, attempt: UUID) -> None:
        """The gateway notices that the attempt is out of time, and says so while nobody cancelled it."""
        self.overdue.append(attempt)
        if self.task.cancel_requested_at is None:
            device = DEVICES.index(self.attempts[attempt].device_id)
            self.say(device, wire.Cancel(attempt=attempt.hex, reason="timeout"))

    def overrule(self, attempt: UUID) -> None:
        """The device was told to stop it and did not; after a cancel its connection ends as well."""
        pair = self.pair(attempt)
        step = pair and rules.overrule(*pair, now=NOW)
        if not step:
            return
        self.put(step)
        self.overruled.append(attempt)
        device = DEVICES.index(step.attempt.device_id)
        if step.task.cancel_requested_at is None:
            self.say(device, wire.Stop(attempts=(attempt.hex,)))
        else:
            _notice(self, device)
            self.cut(device)

    def claim(self, device: int) -> None:
        number = 10 * self.task.round + self.task.attempt_no + 1
        step = rules.claim(
            self.task,
            attempt_id=UUID(int=number),
            device_id=DEVICES[device],
            session=self.links[device].session,
            reservation=(1, 0, 0),
            now=NOW,
            offer_s=10,
        )
        if step is None:
            return
        self.put(step)
        self.say(
            device,
            wire.Assign(
                attempt=step.attempt.id.hex,
                task=TASK.hex,
                task_type="echo",
                payload_json="{}",
                timeout_s=300,
                wait_for_go=self.task.on_device_loss is DeviceLossPolicy.FAIL,
            ),
        )

    def compare(self, device: int, held: dict[UUID, HeldState]) -> None:
        session = self.links[device].session
        actions = reconcile.at_heartbeat(
            DEVICES[device], session, held, self.rows(device, held), self.overdue
        )
        self.carry_out(device, list(actions))

    def rows(self, device: int, held: Iterable[UUID]) -> Rows:
        wanted = {row.id for row in self.attempts.values() if row.live and row.device_id == DEVICES[device]}
        wanted.update(attempt for attempt in held if attempt in self.attempts)
        return {attempt: (self.task, self.attempts[attempt]) for attempt in wanted}

    def carry_out(self, device: int, actions: Iterable[reconcile.Action]) -> None:
        session = self.links[device].session
        for action in actions:
            pair = self.pair(action.attempt)
            name = action.attempt.hex
            match action.wish:
                case Wish.STOP:
                    self.say(device, wire.Stop(attempts=(name,)))
                case Wish.GO:
                    self.say(device, wire.Go(attempts=(name,)))
                case Wish.CANCEL:
                    self.say(device, wire.Cancel(attempt=name))
                case Wish.TIME_OUT:
                    self.say(device, wire.Cancel(attempt=name, reason="timeout"))
                case Wish.LOSE:
                    self.lose(action.attempt, "the device does not hold it any more")
                case Wish.MOVE if pair:
                    self.put(rules.move(*pair, session=session, now=NOW, lease_s=100))
                case Wish.ACCEPT if pair:
                    self.put(rules.accept(*pair, session=session, now=NOW, lease_s=100))
                case Wish.ADOPT if pair:
                    self.put(rules.adopt(*pair, session=session, now=NOW, lease_s=100))

    def registered(self, device: int, held: dict[UUID, HeldState]) -> None:
        """A register arrived: a new session, whatever became of the old one."""
        self.links[device] = self.links[device]._replace(session=self.links[device].session + 1, open=True)
        self.say(device, WELCOME)
        rows = self.rows(device, held)
        self.carry_out(device, list(reconcile.at_register(DEVICES[device], held, rows)))
        self.compare(device, held)

    def received(self, device: int, message: wire.Message) -> None:
        """What gateway/ingest.py does with a frame of the current session."""
        match message:
            case wire.Heartbeat():
                self.compare(device, {UUID(item.attempt): item.state for item in message.held})
            case wire.Accepted():
                for attempt in message.attempts:
                    self.accepted(device, attempt)
            case wire.Result():
                self.result(device, message)
            case wire.Stopped():
                for attempt in message.attempts:
                    pair = self.own(device, attempt)
                    if pair is not None:
                        self.put(rules.confirm(*pair))

    def own(self, device: int, attempt: str) -> tuple[rules.TaskRow, rules.AttemptRow] | None:
        pair = self.pair(UUID(attempt))
        return pair if pair is not None and pair[1].device_id == DEVICES[device] else None

    def accepted(self, device: int, attempt: str) -> None:
        pair = self.own(device, attempt)
        step = pair and rules.accept(*pair, session=self.links[device].session, now=NOW, lease_s=100)
        if not step:
            return
        self.put(step)
        if step.task.cancel_requested_at is not None:
            self.say(device, wire.Cancel(attempt=attempt))
        elif step.task.on_device_loss is DeviceLossPolicy.FAIL:
            self.say(device, wire.Go(attempts=(attempt,)))

    def result(self, device: int, message: wire.Result) -> None:
        pair, verdict = self.own(device, message.attempt), Verdict.UNKNOWN
        if pair is not None:
            step = rules.finish(*pair, rules.Report(outcome=Outcome(message.outcome)), now=NOW, jitter=1)
            self.put(step)
            verdict = step.verdict or verdict
        self.say(device, wire.ResultAck(attempt=message.attempt, verdict=verdict))

    # --- the agents -----------------------------------------------------------------------------------------

    def decide(self, device: int, event: Callable[[agent.Ledger], list[agent.Instruction]]) -> None:
        """Let the device's ledger decide, and do what agent/workbench.py does with its instructions."""
        here = self.agents[device]
        ledger = thawed(here)
        instructions = event(ledger)
        executing = dict(here.executing)
        for item in instructions:
            if isinstance(item, agent.Start):
                self.started.append(item.assign.attempt)
                executing[item.assign.attempt] = ""
            elif isinstance(item, agent.Kill):
                executing.pop(item.attempt, None)
                if item.reason != "stop":
                    executing[item.attempt] = item.reason
        self.agents[device] = frozen(ledger, here)._replace(executing=tuple(sorted(executing.items())))
        for item in instructions:
            if isinstance(item, agent.Send):
                self.report(device, item.message)

    def report(self, device: int, message: wire.Message) -> None:
        """To the gateway; void without a welcome connection."""
        link = self.links[device]
        if self.agents[device].welcome and message not in link.up:
            self.links[device] = link._replace(up=(*link.up, message))
            self.full |= len(link.up) >= MAX_FRAMES

    def told(self, device: int, message: wire.Message) -> None:
        """A frame of the gateway arrived."""
        match message:
            case wire.Welcome():
                self.agents[device] = self.agents[device]._replace(welcome=True)
                self.decide(device, lambda ledger: ledger.connected())
            case wire.Assign():
                self.decide(device, lambda ledger: ledger.assign(message, refuse=None))
            case wire.Go():
                self.decide(device, lambda ledger: ledger.go(message.attempts[0]))
            case wire.Cancel() | wire.Stop() if self.state.work == "defies":
                return
            case wire.Cancel():
                self.decide(device, lambda ledger: ledger.cancel(message.attempt, message.reason))
            case wire.Stop():
                self.decide(device, lambda ledger: ledger.stop(message.attempts[0]))
            case wire.ResultAck():
                self.decide(device, lambda ledger: ledger.acknowledged(message.attempt, message.verdict))

    def cut(self, device: int, *, keep_up: bool = False) -> None:
        """The link is gone for the agent; frames it sent may still arrive, if `keep_up`."""
        link = self.links[device]
        self.links[device] = link._replace(down=(), up=link.up if keep_up else ())
        self.agents[device] = self.agents[device]._replace(dialled=False, welcome=False)


def _worded_alike(row: rules.AttemptRow) -> rules.AttemptRow:
    """Wording tells states apart that behave the same."""
    late = "late" if row.late else ""
    return row if (row.reason, row.late) == ("", late) else row._replace(reason="", late=late)


WELCOME = wire.Welcome(
    protocol=1,
    device_id="d",
    session=0,
    server_version="1",
    incarnation="0" * 32,
    pulse=wire.Pulse(interval_s=1, silence_s=3),
)


def thawed(here: Agent) -> agent.Ledger:
    """The product's ledger in the state the model remembers."""
    ledger = agent.Ledger()
    ledger._waiting = {item.attempt: item for item in here.waiting}
    ledger._running = dict.fromkeys(here.running)
    ledger._finished = {item.attempt: item for item in here.finished}
    ledger._over = dict(here.over)
    return ledger


def frozen(ledger: agent.Ledger, here: Agent) -> Agent:
    return here._replace(
        waiting=tuple(ledger._waiting.values()),
        running=tuple(sorted(ledger._running)),
        finished=tuple(sorted(ledger._finished.values(), key=lambda item: item.attempt)),
        over=tuple(sorted(ledger._over.items())),
    )


def held_of(here: Agent) -> tuple[tuple[UUID, HeldState], ...]:
    return tuple((UUID(attempt), state) for attempt, state in thawed(here).held())


# --- events ---------------------------------------------------------------------------------------------------

Event = tuple[str, Callable[[World], None]]
Ending = Literal[Outcome.SUCCESS, Outcome.FAILED, Outcome.CANCELLED, Outcome.TIMEOUT]
KILLED: dict[str, Ending] = {"user": Outcome.CANCELLED, "timeout": Outcome.TIMEOUT}


def events(state: State) -> Iterator[Event]:
    """Everything that can happen next, by name."""
    for device in range(len(DEVICES)):
        yield from _work(state, device)
        yield from _faults(state, device)
    yield from _wishes(state)
    for row in state.attempts:
        if row.live and state.budget.expiries:
            yield f"lease of {row.no} ends", _spend("expiries", partial(World.lose, attempt=row.id))
        if row.live and state.budget.withdrawals:
            yield f"{row.no} is withdrawn", _spend("withdrawals", partial(World.withdraw, attempt=row.id))
        if _runs_here(state, row):
            yield from _deadlines(state, row)


def _runs_here(state: State, row: rules.AttemptRow) -> bool:
    """Its device is connected and accepted it."""
    link = state.links[DEVICES.index(row.device_id)]
    return row.state is AttemptState.RUNNING and link.open and link.session == row.session


def _deadlines(state: State, row: rules.AttemptRow) -> Iterator[Event]:
    if state.budget.overruns and row.id not in state.overdue:
        yield f"{row.no} is out of time", _spend("overruns", partial(World.time_out, attempt=row.id))
    told = row.id in state.overdue or state.task.cancel_requested_at is not None
    if state.budget.verdicts and told:
        yield f"{row.no} was not stopped", _spend("verdicts", partial(World.overrule, attempt=row.id))


def endings(state: State, kill: str) -> tuple[Ending, ...]:
    """How work on a device may end now; `kill` is why its agent ends it, if it does."""
    if kill:
        return (KILLED[kill],)
    return (Outcome.SUCCESS, Outcome.FAILED) if state.work == "ends" else ()


def _work(state: State, device: int) -> Iterator[Event]:
    here, link, name = state.agents[device], state.links[device], DEVICES[device]
    if link.down:
        yield f"{name} is told {link.down[0].type}", lambda world: _deliver_down(world, device)
    if link.up:
        yield f"gateway hears of {name}", lambda world: _deliver_up(world, device)
    if not here.dialled:
        yield f"{name} dials", lambda world: _dial(world, device)
    if state.budget.beats and here.welcome and not link.up and (here.holds or _live_on(state, device)):
        yield f"{name} beats", _spend("beats", lambda world: _beat(world, device))
    for attempt, kill in here.executing:
        for outcome in endings(state, kill):
            yield (
                f"{name} ends {attempt[-2:]} {outcome}",
                partial(_end, device=device, attempt=attempt, outcome=outcome),
            )
    claimable = state.task.status is TaskStatus.QUEUED and link.open
    # The devices are alike: the first one to get the task may as well be the left.
    first = device == 0 or bool(state.attempts)
    if claimable and first and state.task.attempt_no < MAX_ATTEMPTS:
        yield f"claim for {name}", lambda world: world.claim(device)


def _live_on(state: State, device: int) -> tuple[rules.AttemptRow, ...]:
    return tuple(row for row in state.attempts if row.live and row.device_id == DEVICES[device])


def _faults(state: State, device: int) -> Iterator[Event]:
    here, link, name = state.agents[device], state.links[device], DEVICES[device]
    concerned = here.holds or link.down or link.up or _live_on(state, device)
    if here.dialled and concerned and state.budget.breaks:
        yield f"link of {name} breaks", _spend("breaks", lambda world: world.cut(device))
        if link.up:
            late = _spend("breaks", lambda world: world.cut(device, keep_up=True))
            yield f"link of {name} breaks, frames still arrive", late
    if state.budget.drops and link.down and not isinstance(link.down[0], KEPT):
        yield f"a frame to {name} is dropped", _spend("drops", lambda world: _drop(world, device, "down"))
    if state.budget.drops and link.up and not isinstance(link.up[0], (*KEPT, tuple)):
        yield f"a frame of {name} is dropped", _spend("drops", lambda world: _drop(world, device, "up"))
    if state.budget.repeats and link.down and isinstance(link.down[0], wire.Assign):
        again = link.down[0]
        yield (
            f"an assign to {name} will come twice",
            _spend("repeats", lambda world: _copy(world, device, again)),
        )
    if here.welcome and (device, "assign") in [(where, message.type) for where, message in state.copies]:
        yield f"{name} is told it again", lambda world: _deliver_copy(world, device)
    if state.budget.repeats and link.up and link.open and isinstance(link.up[0], wire.Message):
        heard = link.up[0]
        twice = _spend("repeats", lambda world: world.received(device, heard))
        yield f"gateway hears of {name} what it will hear again", twice
    if state.budget.crashes and (here.waiting or here.running or here.finished):
        yield f"{name} crashes", _spend("crashes", lambda world: _crash(world, device))
    if link.open and not here.dialled:
        yield f"gateway notices that {name} is gone", lambda world: _notice(world, device)


def _wishes(state: State) -> Iterator[Event]:
    if state.budget.cancels and not state.task.status.is_terminal and not state.task.cancel_requested_at:
        yield "cancel", _spend("cancels", _cancel)
    if state.budget.retries and state.task.status.can_retry:
        yield "retry", _spend("retries", _retry)


def _spend(name: str, event: Callable[[World], None]) -> Callable[[World], None]:
    def spent(world: World) -> None:
        world.budget = world.budget._replace(**{name: getattr(world.budget, name) - 1})
        event(world)

    return spent


def _deliver_down(world: World, device: int) -> None:
    link = world.links[device]
    world.links[device] = link._replace(down=link.down[1:])
    world.told(device, link.down[0])


def _deliver_up(world: World, device: int) -> None:
    link = world.links[device]
    world.links[device] = link._replace(up=link.up[1:])
    first = link.up[0]
    if isinstance(first, wire.Message):
        if link.open:
            world.received(device, first)
    else:
        world.registered(device, dict(first))


def _dial(world: World, device: int) -> None:
    """Frames of the old link are discarded; the register goes first."""
    here = world.agents[device]
    world.agents[device] = here._replace(dialled=True, welcome=False)
    world.links[device] = world.links[device]._replace(down=(), up=(held_of(here),))


def _beat(world: World, device: int) -> None:
    held = tuple(
        wire.Held(attempt=attempt.hex, state=state) for attempt, state in held_of(world.agents[device])
    )
    world.report(device, wire.Heartbeat(held=held))


def _end(world: World, device: int, attempt: str, outcome: Ending) -> None:
    here = world.agents[device]
    left = tuple(item for item in here.executing if item[0] != attempt)
    world.agents[device] = here._replace(executing=left)
    world.decide(device, lambda ledger: ledger.finished(wire.Result(attempt=attempt, outcome=outcome)))


def _drop(world: World, device: int, way: str) -> None:
    link = world.links[device]
    world.links[device] = link._replace(**{way: getattr(link, way)[1:]})


def _copy(world: World, device: int, message: wire.Assign) -> None:
    world.copies = ((device, message),)


def _deliver_copy(world: World, device: int) -> None:
    ((_, message),) = world.copies
    world.copies = ()
    world.told(device, message)


def _crash(world: World, device: int) -> None:
    """What is in memory is gone, what is on disk stays; the shim ends the work."""
    survived = agent.Ledger(thawed(world.agents[device]).records())
    world.cut(device)
    world.agents[device] = frozen(survived, Agent())


def _notice(world: World, device: int) -> None:
    link = world.links[device]
    world.links[device] = link._replace(open=False, up=())


def _cancel(world: World) -> None:
    world.task = rules.cancel(world.task, by="user", now=NOW)
    for row in world.attempts.values():
        if row.live and world.task.cancel_requested_at is not None:
            device = DEVICES.index(row.device_id)
            if world.links[device].open and world.links[device].session == row.session:
                world.say(device, wire.Cancel(attempt=row.id.hex))


def _retry(world: World) -> None:
    world.task = rules.retry(world.task, now=NOW, rank=0)


# --- invariants -----------------------------------------------------------------------------------------------


def check(before: State, after: State) -> None:
    """Raise Violation unless the step keeps every promise."""
    _one_live_attempt(after)
    _ended_rounds_stay(before, after)
    _results_are_of_their_round(after)
    _nothing_new_after_cancel(before, after)
    _overruled_stay_over(after)
    _starts(after)


def _overruled_stay_over(state: State) -> None:
    if any(row.live for row in state.attempts if row.id in state.overruled):
        raise Violation("an attempt came back after the server had ended it")


def _one_live_attempt(state: State) -> None:
    live = [row for row in state.attempts if row.live]
    if len(live) > 1:
        raise Violation("two live attempts at once")
    on_device = state.task.status in (TaskStatus.ASSIGNED, TaskStatus.RUNNING)
    if on_device != bool(live):
        raise Violation(f"{state.task.status} with {len(live)} live attempts")


def _ended_rounds_stay(before: State, after: State) -> None:
    old, new = before.task, after.task
    if (
        old.status.is_terminal
        and new.round == old.round
        and (new.status, new.result_attempt) != (old.status, old.result_attempt)
    ):
        raise Violation("an ended round changed")


def _results_are_of_their_round(state: State) -> None:
    decided = state.task.result_attempt
    for row in state.attempts:
        if row.id == decided and row.round != state.task.round:
            raise Violation("a result of another round was recorded")
        if row.live and row.round != state.task.round:
            raise Violation("an attempt of another round is live")


def _nothing_new_after_cancel(before: State, after: State) -> None:
    cancelled = before.task.cancel_requested_at is not None and after.task.round == before.task.round
    if not cancelled:
        return
    lived = {row.id for row in before.attempts if row.live}
    if any(row.live and row.id not in lived for row in after.attempts):
        raise Violation("an attempt came to life after the cancel")
    if after.task.status in (TaskStatus.QUEUED, TaskStatus.PENDING):
        raise Violation("a cancelled task went back to the queue")
    if after.task.status in (TaskStatus.FAILED, TaskStatus.TIMEOUT):
        raise Violation(f"a cancelled task ended as {after.task.status}")


def _starts(state: State) -> None:
    if len(set(state.started)) != len(state.started):
        raise Violation("an attempt was started twice")
    if state.task.on_device_loss is DeviceLossPolicy.FAIL:
        rounds = [UUID(attempt).int // 10 for attempt in state.started]
        if len(set(rounds)) != len(rounds):
            raise Violation("at-most-once was started twice")


# --- exploring ------------------------------------------------------------------------------------------------


@dataclass
class Explored:
    """Every state found, and how it was reached."""

    parents: dict[State, tuple[State, str] | None]
    steps: int
    ends: set[TaskStatus]

    @property
    def states(self) -> int:
        return len(self.parents)


def explore(start: State) -> Explored:
    """Visit every reachable state, nearest first. Raises Violation with the shortest way to it."""
    parents: dict[State, tuple[State, str] | None] = {start: None}
    waiting, steps, ends = deque([start]), 0, set[TaskStatus]()
    while waiting:
        state = waiting.popleft()
        for name, event in events(state):
            world = World(state)
            event(world)
            if world.full:
                continue
            after = world.frozen()
            steps += 1
            try:
                check(state, after)
            except Violation as violation:
                raise Violation(f"{violation}\n{_story(parents, state, name)}") from None
            if after not in parents:
                parents[after] = (state, name)
                waiting.append(after)
                if after.task.status.is_terminal:
                    ends.add(after.task.status)
    return Explored(parents, steps, ends)


def _story(parents: dict[State, tuple[State, str] | None], state: State, last: str) -> str:
    names, way = [last], parents[state]
    while way is not None:
        names.append(way[1])
        way = parents[way[0]]
    return "\n".join(f"  {number}. {name}" for number, name in enumerate(reversed(names), 1))


# --- settling -------------------------------------------------------------------------------------------------


def settled(state: State) -> bool:
    """The task has ended, both sides know it, and nothing runs (where the device has any say in it)."""
    return state.task.status.is_terminal and (
        state.work == "defies"
        or (
            not any(here.waiting or here.running or here.finished or here.executing for here in state.agents)
            and not any(link.down or link.up for link in state.links)
        )
    )


def check_settling(explored: Explored) -> int:
    """Without further faults every state settles. Raises Violation with the way. Returns the steps taken."""
    known: set[State] = set()
    steps = 0
    for start in explored.parents:
        way: list[State] = []
        state, beaten = start, 0
        while not settled(state) and state not in known:
            way.append(state)
            state, beaten = _calm_step(state, beaten)
            steps += 1
            if len(way) > FAIR_STEPS:
                raise Violation(f"it does not settle\n{_story(explored.parents, start, 'and then no fault')}")
        known.update(way)
    return steps


def settle(state: State) -> State:
    """Where a state comes to rest without further faults. Raises Violation if it does not."""
    beaten = 0
    for _ in range(FAIR_STEPS):
        if settled(state):
            return state
        state, beaten = _calm_step(state, beaten)
    raise Violation("it does not settle")


def _calm_step(state: State, beaten: int) -> tuple[State, int]:
    """The next step of a world without faults: frames first, then links, work, heartbeats, and time passing."""
    world = World(state)
    for name, event in _calm_events(state):
        del name
        event(world)
        # A device that defies is told at each heartbeat, for ever: that is no progress.
        return world.frozen(), beaten if state.work == "defies" else 0
    beating = [device for device, here in enumerate(state.agents) if here.welcome]
    if beaten < len(beating):
        _beat(world, beating[beaten])
        _deliver_up(world, beating[beaten])
        return world.frozen(), beaten + 1
    for row in state.attempts:
        if row.live:
            _pass_time(world, row)
    return world.frozen(), 0


def _pass_time(world: World, row: rules.AttemptRow) -> None:
    """Heartbeats changed nothing: what runs on a connected device runs out of time, all else was not answered."""
    if not _runs_here(world.state, row):
        world.lose(row.id)
    elif row.id not in world.overdue and world.task.cancel_requested_at is None:
        world.time_out(row.id)
    elif world.state.work == "defies":
        world.overrule(row.id)
    else:
        raise Violation("a device that obeys was told to stop, and did not hear of it")


def _calm_events(state: State) -> Iterator[Event]:
    for device, (here, link) in enumerate(zip(state.agents, state.links, strict=True)):
        if link.down:
            yield "down", partial(_deliver_down, device=device)
        if link.up:
            yield "up", partial(_deliver_up, device=device)
        if not here.dialled:
            yield "dial", partial(_dial, device=device)
        for attempt, kill in here.executing:
            for outcome in endings(state, kill)[:1]:
                yield "end", partial(_end, device=device, attempt=attempt, outcome=outcome)
        if state.task.status is TaskStatus.QUEUED and link.open and here.welcome:
            yield "claim", partial(World.claim, device=device)


# --- all of it ------------------------------------------------------------------------------------------------

REQUEUE, FAIL = DeviceLossPolicy.REQUEUE, DeviceLossPolicy.FAIL
# Which faults meet in one exploration: what a machine visits in seconds.
QUICK: tuple[tuple[DeviceLossPolicy, Budget], ...] = (
    (REQUEUE, Budget(drops=1, cancels=1)),
    (REQUEUE, Budget(breaks=1, cancels=1, beats=2)),
    (REQUEUE, Budget(breaks=1, retries=1)),
    (REQUEUE, Budget(breaks=1, expiries=1, beats=0)),
    (REQUEUE, Budget(crashes=1, cancels=1)),
    (REQUEUE, Budget(repeats=1, cancels=1)),
    (REQUEUE, Budget(withdrawals=1, cancels=1)),
    (REQUEUE, Budget(withdrawals=1, drops=1)),
    (FAIL, Budget(withdrawals=1, expiries=1)),
    (FAIL, Budget(breaks=1, expiries=1, cancels=1)),
    (FAIL, Budget(crashes=1, breaks=1)),
    (FAIL, Budget(repeats=1, drops=1, expiries=1)),
)
# The server's own deadlines, with work that ends when it is killed and on devices that obey nobody.
DEADLINES: tuple[tuple[DeviceLossPolicy, Budget, Work], ...] = (
    (REQUEUE, Budget(overruns=1, verdicts=1), "ends"),
    (REQUEUE, Budget(overruns=1, cancels=1), "ends"),
    (REQUEUE, Budget(overruns=1, drops=1), "hangs"),
    (REQUEUE, Budget(verdicts=1, cancels=1, retries=1), "hangs"),
    (FAIL, Budget(overruns=1, verdicts=1, breaks=1), "hangs"),
    (REQUEUE, Budget(overruns=1, expiries=1), "hangs"),
    (REQUEUE, Budget(overruns=1, verdicts=1, cancels=1), "defies"),
    (FAIL, Budget(overruns=1, verdicts=1, expiries=1), "defies"),
)
# More at once: minutes to hours. `python -m tests.unit.tasks.model`
DEEP: tuple[tuple[DeviceLossPolicy, Budget], ...] = tuple(
    (policy, budget)
    for policy in DeviceLossPolicy
    for budget in (
        Budget(breaks=1, expiries=1, cancels=1),
        Budget(breaks=1, crashes=1, expiries=1),
        Budget(breaks=1, cancels=1, retries=1),
        Budget(breaks=2, cancels=1, beats=2),
        Budget(crashes=1, expiries=1, cancels=1, retries=1),
        Budget(breaks=1, drops=1, repeats=1, expiries=1),
    )
)


def main() -> None:
    """Explore the deep form and say how far it went."""
    for policy, budget in DEEP:
        explored = explore(initial(policy, budget))
        settling = check_settling(explored)
        print(
            f"{policy} {budget}: {explored.states} states, {explored.steps} steps, {settling} to settle",
            flush=True,
        )


if __name__ == "__main__":
    main()
