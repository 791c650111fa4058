"""One fault after the other under load: what is lost or recorded twice, how long until work goes on elsewhere.

The cluster, its clients, its witnesses and its judge are those of `manage.py torture`; here the faults come in
order, one kind a section, so that each has a time of its own. Heartbeats come each second, a lease lasts 4 s and a
broken connection is forgiven for 1 s: the goals are these terms and 2 s. The time of a redispatch runs from the
fault to the offer of the next attempt, for every attempt the device held.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from benchmarks.harness.bench import Bench
from benchmarks.harness.celery_edge import NAME as CELERY
from benchmarks.harness.celery_edge import CeleryEdge
from benchmarks.harness.figures import Cell, Durability, Outcome
from benchmarks.harness.load import Load
from benchmarks.harness.venvs import NotInstallable
from retire_cluster.torture.checker import judge
from retire_cluster.torture.history import History, StoredAttempt, Trouble
from retire_cluster.torture.processes import CannotStart
from retire_cluster.torture.shapes import HEARTBEAT, LEASE_S, Production

NUMBER = "S10"
TITLE = "faults under load: nothing lost, nothing recorded twice, work goes on"

OURS = "ours (PostgreSQL)"
WHOLE = "the whole run, judged"
AGENTS, CLIENTS = 4, 16
GRACE_S = HEARTBEAT["reconnect_grace"]
ALLOWED_S = 2.0  # beyond the term
AWAY_S = LEASE_S + 3.0  # a device is away for so long that its work must go elsewhere
CALM_S = 2.0  # after a fault, before the next
WATCH_S = 4.0  # after a fault, for a silence of the whole cluster
SETTLE_S = 90.0
CONNECTION, TERM = "agent killed: its connection drops", "agent frozen: its connection stays"
REDISPATCH, SILENCE = "slowest redispatch s", "longest silence s"


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that was. `device` is the agent it hit, if one."""

    kind: str
    at: float
    until: float
    device: str = ""


def run(bench: Bench) -> Outcome:
    """The faults of all kinds, as many rounds as the profile has; beside it a killed worker of the peer's."""
    outcome = Outcome()
    peer = _Peer(bench, outcome) if bench.peers else None
    with ExitStack() as stack:
        shape = Production(bench.directory, AGENTS, stack)
        asyncio.run(_Chaos(bench, shape, outcome).run())
    if peer:
        outcome.cells += peer.conclude()
    return outcome


class _Chaos:
    def __init__(self, bench: Bench, shape: Production, outcome: Outcome) -> None:
        self._bench = bench
        self._shape = shape
        self._outcome = outcome
        self._struck: list[Struck] = []
        self._load = Load(shape, bench.directory, CLIENTS)

    async def run(self) -> None:
        shape, rounds = self._shape, self._bench.pick(1, 5)
        try:
            await shape.start()
            await self._within("devices to be online", self._all_online)
            self._bench.say("under load")
            loading = asyncio.create_task(self._load.run())
            await asyncio.sleep(CALM_S)
            for _ in range(rounds):
                await self._round()
            await asyncio.sleep(CALM_S)
            self._load.enough()
            await loading
            await self._within("the end of every task", self._all_over)
            await self._within("devices to be back online", self._all_online)
            self._bench.say("judged")
            history = await asyncio.to_thread(self._history)
        finally:
            shape.stop()
        self._conclude(history)

    # --- the faults -------------------------------------------------------------------------------------------

    async def _round(self) -> None:
        """Each kind once. Two devices are away at the same time, which the others' slots allow for."""
        parts, nodes, chance = self._shape.parts, self._shape.nodes, Random(1)
        first, second, third, _ = nodes
        killed = self._strike(CONNECTION, first.name, lambda: first.die(AWAY_S))
        frozen = self._strike(TERM, second.name, lambda: second.freeze(AWAY_S))
        await asyncio.gather(killed, frozen)
        await self._strike("gateway killed", "", lambda: parts["gateway-1"].die(0, chance))
        await self._strike("API killed (gunicorn)", "", lambda: parts["gunicorn"].die(0, chance))
        both = [parts[name].die(0, chance) for name in ("celery-1", "uvicorn")]
        await self._strike("Celery worker and second API killed", "", lambda: _all(both))
        await self._strike("PostgreSQL's connections ended", "", self._shape.end_connections)
        restarted = self._strike("Redis restarted", "", lambda: parts["redis"].die(0, chance))
        killed = self._strike(CONNECTION, third.name, lambda: third.die(GRACE_S + 3.0))
        await asyncio.gather(restarted, killed)

    async def _strike(self, kind: str, device: str, blow: Callable[[], Awaitable[object]]) -> None:
        if device:
            await self._within(f"work on {device}", lambda: self._works(device))
        at = time.time()
        await blow()
        self._struck.append(Struck(kind, at, time.time(), device))
        self._bench.say(f"{kind}: over after {time.time() - at:.1f} s")
        await asyncio.sleep(CALM_S)

    async def _works(self, device: str) -> str:
        stored = await asyncio.to_thread(self._shape.archive.attempts)
        busy = any(
            item.device == device and item.state == "running" for own in stored.values() for item in own
        )
        return "" if busy else "it has none"

    # --- quiet ------------------------------------------------------------------------------------------------

    async def _within(self, what: str, condition: Callable[[], Awaitable[str]]) -> None:
        """Raises CannotStart."""
        deadline = time.monotonic() + SETTLE_S
        while objection := await condition():
            if time.monotonic() > deadline:
                raise CannotStart(f"waited {SETTLE_S:g} s in vain for {what}: {objection}")
            await asyncio.sleep(0.1)

    async def _all_over(self) -> str:
        left = await asyncio.to_thread(self._shape.archive.unfinished)
        return f"{left} tasks are not over" if left else ""

    async def _all_online(self) -> str:
        for node in self._shape.nodes:
            node.revive()
            answer = await self._load.client.call("GET", f"devices/{node.name}/status")
            if answer.code != 200 or not answer.data["is_online"]:
                return f"{node.name} is not online"
        return ""

    def _history(self) -> History:
        """Read while the database is still there."""
        nodes, archive = self._shape.nodes, self._shape.archive
        return History(
            number=1,
            lease_s=LEASE_S,
            clock_s=self._shape.clock_s,
            stories=self._load.stories(archive),
            changes=archive.changes(),
            capacities=archive.capacities(),
            outages=tuple(item for node in nodes for item in node.outages),
            troubles=tuple(
                Trouble(since=blow.at, until=blow.until) for blow in self._struck if not blow.device
            ),
            on_disk=tuple(item for node in nodes for item in node.on_disk),
            undelivered=tuple(item for node in nodes for item in node.outbox()),
            unsettled=tuple(self._load.unsettled),
        )

    # --- what came of it --------------------------------------------------------------------------------------

    def _conclude(self, history: History) -> None:
        outcome = self._outcome
        whole = Cell(WHOLE, OURS, Durability.COMMITTED, f"{AGENTS} agents, {CLIENTS} clients, heartbeats 1 s")
        violations = judge(history)
        kinds = {
            kind: sum(found.promise == kind for found in violations) for kind in ("I1", "recorded twice")
        }
        whole.add({"tasks": len(history.stories), "faults": len(self._struck)})
        whole.add({"lost": kinds["I1"], "recorded twice": kinds["recorded twice"]})
        whole.add({"other promises broken": len(violations) - sum(kinds.values())})
        for found in violations[:10]:
            self._bench.say(f"{found.promise}, task {found.nonce}: {found.what}")
        cells = {
            kind: self._cell(kind, history) for kind in dict.fromkeys(blow.kind for blow in self._struck)
        }
        outcome.cells += [whole, *cells.values()]
        outcome.at_most("tasks lost", whole, "lost", 0, "")
        outcome.at_most("tasks recorded twice", whole, "recorded twice", 0, "")
        outcome.at_most("other promises broken", whole, "other promises broken", 0, "")
        for kind, term in ((CONNECTION, GRACE_S), (TERM, LEASE_S)):
            words = f"redispatch, {kind}; term {term} s"
            outcome.at_most(words, outcome.cell(kind, OURS), REDISPATCH, term + ALLOWED_S, "s")

    def _cell(self, kind: str, history: History) -> Cell:
        """Of one kind of fault: the slowest redispatch of each time, and how long nothing ended anywhere."""
        cell = Cell(kind, OURS, Durability.COMMITTED)
        ends = sorted(story.row.finished_at or 0.0 for story in history.stories if story.row)
        for blow in (blow for blow in self._struck if blow.kind == kind):
            cell.add({SILENCE: longest_silence(ends, blow.at, blow.at + WATCH_S)})
            waits = [wait for story in history.stories for wait in redispatches(story.attempts, blow)]
            if waits:
                cell.add({REDISPATCH: max(waits), "attempts held": len(waits)})
        return cell


def redispatches(attempts: Sequence[StoredAttempt], blow: Struck) -> list[float]:
    """Seconds from the fault to the next offer, for each attempt that the fault took from its device."""
    return [
        after.offered_at - blow.at
        for before, after in pairwise(attempts)
        if before.device == blow.device
        and before.outcome == "lost"
        and before.offered_at < blow.at < (before.ended_at or 0.0) <= blow.until + CALM_S
    ]


def longest_silence(ends: Sequence[float], since: float, until: float) -> float:
    """The longest time within these in which no task ended."""
    moments = [since, *(end for end in ends if since < end < until)]
    return max((after - before for before, after in pairwise(moments)), default=until - since)


async def _all(coroutines: Sequence[Awaitable[object]]) -> None:
    await asyncio.gather(*coroutines)


class _Peer:
    """A Celery worker with `acks_late` that dies of SIGKILL amid a task, and another that could run it again."""

    def __init__(self, bench: Bench, outcome: Outcome) -> None:
        self._signs = bench.directory / "celery.signs"
        self._peer: CeleryEdge | None = None
        try:
            self._peer = peer = CeleryEdge(bench.directory / "celery", bench.cache)
        except NotInstallable as error:
            outcome.missing[CELERY] = str(error)
            return
        bench.stack.callback(peer.stop)
        client = peer.client()
        self._version = client.call("version")["version"]
        worker = peer.worker("first")
        peer.await_ready("first")
        client.call("send_witness", path=str(self._signs), seconds=5)
        while not self._runs():
            time.sleep(0.01)
        worker.kill()
        self._killed_at = time.time()
        peer.worker("second")

    def conclude(self) -> list[Cell]:
        """How long until the task ran again, if it did while ours was tried."""
        if self._peer is None:
            return []
        settings = f"Celery {self._version}, acks_late, visibility_timeout 3600 s (default)"
        cell = Cell("worker killed amid a task, another one idle", CELERY, Durability.VOLATILE, settings)
        again = [moment - self._killed_at for moment in self._runs()[1:]]
        cell.add({"run again": len(again), "watched s": time.time() - self._killed_at})
        if again:
            cell.add({REDISPATCH: again[0]})
        return [cell]

    def _runs(self) -> list[float]:
        return [float(line) for line in self._signs.read_text().split()] if self._signs.exists() else []
