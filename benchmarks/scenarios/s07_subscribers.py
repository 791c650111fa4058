"""A thousand clients of `/ws`: how soon each is told, and what a burst does to them beside some that do not read.

The same work on both sides: a request stores a row and has everybody told of it. Time runs from before the request
is sent to the moment the client has the frame. A burst is more than a server keeps for who does not read.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.harness import trees
from benchmarks.harness.bench import DURABLE, Bench, Measure
from benchmarks.harness.channels_orm import LAYERS, Notes, Stock, settings_of
from benchmarks.harness.figures import Cell, Durability, Outcome
from benchmarks.harness.files import allowed
from benchmarks.harness.ours import Api, Production
from benchmarks.harness.peers import Own
from retire_cluster import __version__
from retire_cluster.torture import postgres

NUMBER, TITLE = "S7", "a thousand live subscribers"
SUBSCRIBERS, STALLED = 1000, 10
A_SECOND = 10  # events
BURST, TASKS_IN_ONE = 300, 50  # events one after the other, each of 2 KiB
WAIT_S = 30.0
P99_MS = 100.0
# What a server may hold for a client that does not read: its own bound (docs/reference/events.md), and the buffers
# of a connection.
MOST_KEPT_KIB = 256 + 2 * 64
STEADY, FLOOD = "10 events a second", "a burst of 300 events, 10 clients stalled"
OURS = Production.name
# Stays queued, so that it is one event: nobody has the tag.
TASK = {"task_type": "echo", "payload": {}, "requirements": {"required_tags": ["nobody-has-this"]}}


@dataclass(slots=True)
class Stand:
    """One contestant, running. `send` makes one event of so many tasks and returns its identity."""

    name: str
    settings: str
    roots: list[int]
    audience: Own
    port: int
    send: Callable[[int], str]

    def steady(self, seconds: int) -> tuple[dict[str, float], list[str]]:
        """One block: so many events a second for so long."""
        self.audience.call("begin")
        sent: dict[str, float] = {}
        began = time.monotonic()
        with trees.spent(self.roots) as cost:
            for number in range(seconds * A_SECOND):
                time.sleep(max(0.0, began + number / A_SECOND - time.monotonic()))
                at = time.monotonic()
                sent[self.send(1)] = at
            told = self.audience.call("report", sent=sent, wait_s=WAIT_S)
        faults = [f"{told[name]} {name}" for name in ("lost", "doubled", "closed") if told[name]]
        figures = {"p50 ms": told["p50"], "p99 ms": told["p99"], "most ms": told["most"]}
        deliveries = len(sent) * SUBSCRIBERS
        return {**figures, "CPU us each": 1e6 * cost.cpu_s / deliveries}, faults

    def flood(self) -> tuple[dict[str, float], list[str]]:
        """One block: a burst, while some do not read. What is lost is a figure: some systems do lose here."""
        self.audience.call("stall", port=self.port, path="/ws", count=STALLED)
        self.audience.call("begin")
        sent: dict[str, float] = {}
        memory = trees.rss_mib(self.roots)
        with trees.spent(self.roots) as cost:
            for _ in range(BURST):
                at = time.monotonic()
                sent[self.send(TASKS_IN_ONE)] = at
            told = self.audience.call("report", sent=sent, wait_s=WAIT_S)
        grown = trees.rss_mib(self.roots) - memory
        late = self.audience.call("drain", quiet_s=1.0)
        # Who takes nothing for 20 seconds gets a close that says to come again, others a reset.
        warned = sum("reset" in kinds or "close" in kinds for kinds in late["kinds"])
        deliveries = BURST * SUBSCRIBERS
        figures = {
            "lost %": 100 * told["lost"] / deliveries,
            "seconds": told["seconds"],
            "deliveries/s": (deliveries - told["lost"]) / max(told["seconds"], 0.001),
            "p99 ms": told["p99"] or 0.0,
            "CPU us each": 1e6 * cost.cpu_s / deliveries,
            "MiB grown": grown,
            "stalled: most KiB": late["most_bytes"] / 1024,
            "stalled: told %": 100 * warned / STALLED,
        }
        return figures, [f"{told[name]} {name}" for name in ("doubled", "closed") if told[name]]


def run(bench: Bench) -> Outcome:
    outcome = Outcome()
    with allowed(4 * SUBSCRIBERS), ExitStack() as stack:
        stands = [_ours(bench, stack)]
        if bench.peers:
            for name, layer in LAYERS.items():
                try:
                    stands.append(_stock(bench, stack, name, layer))
                except Exception as error:
                    outcome.missing[name] = f"{type(error).__name__}: {error}"
        seconds = bench.pick(4, 30)
        measured: list[tuple[Cell, Measure]] = []
        for stand in stands:
            cell = Cell(STEADY, stand.name, Durability.COMMITTED, stand.settings)
            measured.append((cell, lambda stand=stand: stand.steady(seconds)))
        bench.interleave(measured)
        outcome.cells += [cell for cell, _ in measured]
        outcome.cells += _floods(bench, stands)
    _judge(outcome)
    return outcome


def _floods(bench: Bench, stands: list[Stand]) -> list[Cell]:
    """No block to warm up: everybody is warm, and each is long."""
    cells = [Cell(FLOOD, stand.name, Durability.COMMITTED, stand.settings) for stand in stands]
    for number in range(bench.pick(1, bench.blocks)):
        for cell, stand in zip(cells, stands, strict=True):
            cell.add(*stand.flood())
            shown = ", ".join(f"{name} {values[-1]:.4g}" for name, values in cell.figures.items())
            bench.say(f"{FLOOD}, {stand.name}, block {number + 1}: {shown}")
    return cells


def _judge(outcome: Outcome) -> None:
    steady, flood = outcome.cell(STEADY, OURS), outcome.cell(FLOOD, OURS)
    outcome.at_most("p99 from submit to each client", steady, "p99 ms", P99_MS, "ms")
    outcome.at_most("lost by clients that read, in a burst", flood, "lost %", 0, "%")
    outcome.at_most("taken by a stalled client", flood, "stalled: most KiB", MOST_KEPT_KIB, "KiB")
    outcome.at_least("stalled clients told to begin anew or to come again", flood, "stalled: told %", 100, "%")


def _audience(bench: Bench, stack: ExitStack, name: str, port: int) -> Own:
    found = Own("benchmarks.harness.listeners", bench.directory / "listeners.log")
    stack.callback(found.stop)
    seconds = found.call("open", port=port, path="/ws", count=SUBSCRIBERS)["seconds"]
    bench.say(f"{name}: {SUBSCRIBERS} connected within {seconds:.1f} s")
    return found


def _ours(bench: Bench, stack: ExitStack) -> Stand:
    database = stack.enter_context(postgres.running(bench.directory / "postgres.log", DURABLE))
    cluster = Production(bench.directory / "ours", database.url, database.pid)
    stack.callback(cluster.stop)
    cluster.start()
    api = cluster.api()
    stack.callback(api.close)
    audience = _audience(bench, stack, cluster.name, cluster.gateway_port)
    settings = f"Retire-Cluster {__version__}; one gateway, one gunicorn worker"
    port = cluster.gateway_port
    return Stand(cluster.name, settings, cluster.roots, audience, port, lambda count: _submit(api, count))


def _submit(api: Api, count: int) -> str:
    answer = api.call("POST", "tasks/batch", {"tasks": [TASK] * count})
    return str(answer["tasks"][0]["task_id"])


def _stock(bench: Bench, stack: ExitStack, name: str, layer: str) -> Stand:
    stock = Stock(bench, stack, layer)
    notes = Notes(stock.request_port)
    stack.callback(notes.close)
    audience = _audience(bench, stack, name, stock.port)
    settings = settings_of(stock, layer)
    return Stand(name, settings, stock.roots, audience, stock.port, lambda count: notes.send([TASK] * count))
