"""A thousand clients of `/ws`: how soon each is told, and what a burst does to them beside some that do not read.

The same work on both sides: a request stores a row and has everybody told of it. Time runs from before the request
is sent to the moment the client has the frame. A burst is more than a server keeps for who does not read.
"""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from benchmarks.harness import trees
from benchmarks.harness.bench import Bench, Measure, durable_postgres
from benchmarks.harness.channels_orm import LAYERS, Notes, Stock, settings_of
from benchmarks.harness.figures import Cell, Durability, Outcome
from benchmarks.harness.files import allowed
from benchmarks.harness.ours import Api, Production
from benchmarks.harness.talking import Talker
from retire_cluster import __version__

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


class Sender(Protocol):
    """Makes events: one is a submission of so many tasks. A kept connection, for one block."""

    def send(self, tasks: int) -> str:
        """Returns the event's identity."""

    def close(self) -> None: ...


class Submissions:
    """Ours."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def send(self, tasks: int) -> str:
        answer = self._api.call("POST", "tasks/batch", {"tasks": [TASK] * tasks})
        return str(answer["tasks"][0]["task_id"])

    def close(self) -> None:
        self._api.close()


class StockSubmissions:
    """The stock project's: a note with as much in it."""

    def __init__(self, port: int) -> None:
        self._notes = Notes(port)

    def send(self, tasks: int) -> str:
        return self._notes.send(["0" * 36] * tasks)

    def close(self) -> None:
        self._notes.close()


@dataclass(slots=True)
class Stand:
    """One contestant, running."""

    name: str
    settings: str
    roots: list[int]
    audience: Talker
    port: int
    connect: Callable[[], "Sender"]

    def steady(self, seconds: int) -> tuple[dict[str, float], list[str]]:
        """One block: so many events a second for so long. What is lost is a figure: some systems do lose here."""
        sent: dict[str, float] = {}
        began = time.monotonic()
        with trees.spent(self.roots) as cost, closing(self.connect()) as sender:
            self.audience.call("begin")
            for number in range(seconds * A_SECOND):
                time.sleep(max(0.0, began + number / A_SECOND - time.monotonic()))
                at = time.monotonic()
                sent[sender.send(1)] = at
            told = self.audience.call("report", sent=sent, wait_s=WAIT_S)
        return self._figures(told, len(sent), cost), _faults(told)

    def flood(self) -> tuple[dict[str, float], list[str]]:
        """One block: a burst, while some do not read."""
        self.audience.call("stall", port=self.port, path="/ws", count=STALLED)
        sent: dict[str, float] = {}
        memory = trees.rss_mib(self.roots)
        with trees.spent(self.roots) as cost, closing(self.connect()) as sender:
            self.audience.call("begin")
            for _ in range(BURST):
                at = time.monotonic()
                sent[sender.send(TASKS_IN_ONE)] = at
            told = self.audience.call("report", sent=sent, wait_s=WAIT_S)
        grown = trees.rss_mib(self.roots) - memory
        late = self.audience.call("drain", quiet_s=1.0)
        # Who takes nothing for 20 seconds gets a close that says to come again, others a reset.
        warned = sum("reset" in kinds or "close" in kinds for kinds in late["kinds"])
        figures = self._figures(told, BURST, cost)
        figures["deliveries/s"] = told["came"] / told["seconds"] if told["came"] else 0.0
        figures["MiB grown"] = grown
        figures["stalled: most KiB"] = late["most_bytes"] / 1024
        figures["stalled: told %"] = 100 * warned / STALLED
        return figures, _faults(told)

    @staticmethod
    def _figures(told: dict[str, Any], events: int, cost: trees.Cost) -> dict[str, float]:
        deliveries = events * SUBSCRIBERS
        times = {f"{name} ms": told[name] for name in ("p50", "p99", "most")} if told["came"] else {}
        return {
            **times,
            "lost %": 100 * told["lost"] / deliveries,
            "CPU us each": 1e6 * cost.cpu_s / deliveries,
        }


def _faults(told: dict[str, Any]) -> list[str]:
    return [f"{told[name]} {name}" for name in ("doubled", "closed") if told[name]]


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
        seconds = bench.pick(2, 30)
        measured: list[tuple[Cell, Measure]] = []
        for stand in stands:
            cell = Cell(STEADY, stand.name, Durability.COMMITTED, stand.settings)
            measured.append((cell, partial(stand.steady, seconds)))
        # In the quick profile one block after the first one, and the burst for ours alone: each of a peer's takes
        # longer than all of ours.
        replace(bench, blocks=bench.pick(1, bench.blocks)).interleave(measured)
        outcome.cells += [cell for cell, _ in measured]
        outcome.cells += _floods(bench, stands[: bench.pick(1, len(stands))])
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
    outcome.at_most("lost by clients that read", steady, "lost %", 0, "%")
    outcome.at_most("lost by clients that read, in a burst", flood, "lost %", 0, "%")
    outcome.at_most("taken by a stalled client", flood, "stalled: most KiB", MOST_KEPT_KIB, "KiB")
    outcome.at_least(
        "stalled clients told to begin anew or to come again", flood, "stalled: told %", 100, "%"
    )


def _audience(bench: Bench, stack: ExitStack, name: str, port: int) -> Talker:
    command = [sys.executable, "-m", "benchmarks.harness.listeners"]
    found = Talker("the listeners", command, bench.directory / "listeners.log")
    stack.callback(found.stop)
    seconds = found.call("open", port=port, path="/ws", count=SUBSCRIBERS)["seconds"]
    bench.say(f"{name}: {SUBSCRIBERS} connected within {seconds:.1f} s")
    return found


def _ours(bench: Bench, stack: ExitStack) -> Stand:
    database = stack.enter_context(durable_postgres(bench.directory / "postgres.log"))
    cluster = Production(bench.directory / "ours", database.url, database.pid)
    stack.callback(cluster.stop)
    cluster.start()
    port = cluster.gateway_port
    audience = _audience(bench, stack, cluster.name, port)
    settings = f"Retire-Cluster {__version__}; one gateway, one gunicorn worker"
    return Stand(cluster.name, settings, cluster.roots, audience, port, lambda: Submissions(cluster.api()))


def _stock(bench: Bench, stack: ExitStack, name: str, layer: str) -> Stand:
    stock = Stock(bench, stack, layer)
    audience = _audience(bench, stack, name, stock.port)
    settings = settings_of(stock, layer)
    return Stand(
        name, settings, stock.roots, audience, stock.port, lambda: StockSubmissions(stock.request_port)
    )
