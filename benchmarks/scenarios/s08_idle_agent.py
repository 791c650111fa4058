"""What a device pays that waits for work: memory, CPU and bytes, beside a Celery worker that waits for the same.

All agents and all workers idle at the same time. The window is a whole number of heartbeat intervals, so each
agent beats equally often in it; CPU and bytes of an hour are those of the window times the hour's windows. Every
agent and every worker gives one value, where other scenarios have one a block. An agent's tree is one process; that
of a worker with `-c 1` is two, the one that talks to Redis and the one that runs tasks, and both count.
Bytes are what TCP carries, TLS included; its own headers come to some 200 bytes more a heartbeat.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from benchmarks.harness import footprint
from benchmarks.harness.bench import Bench
from benchmarks.harness.celery_edge import NAME as CELERY
from benchmarks.harness.celery_edge import CeleryEdge
from benchmarks.harness.figures import Cell, Outcome
from benchmarks.harness.ours import BIN, Api, Embedded, Program, until
from benchmarks.harness.relay import Relay
from benchmarks.harness.venvs import NotInstallable

NUMBER = "S8"
TITLE = "an idle agent: memory, CPU, bytes on the wire"

CASE = "waiting for work"
OURS = "agent"
INTERVAL_S = 60  # between heartbeats, unless an operator changed it
SETTLE_S = 4.0
HOUR_S = 3600.0


class OnTheLan(Embedded):
    """A gateway for other machines: it speaks TLS, as devices on a network meet it."""

    def start(self) -> None:
        where = ("--port", str(self.port), "--cluster-port", str(self.gateway_port))
        flags = ("--data-dir", str(self.data_dir), "--no-local-node", "--cluster-bind", "0.0.0.0")
        server = self.launch("server", BIN / "retire-cluster-api", *where, *flags, "--embedded")
        until(self._healthy, f"the server; see {server.log}")


@dataclass(slots=True)
class Idler:
    """A process that waits, and the relay between it and its server, if any."""

    cell: Cell
    program: Program
    relay: Relay | None = None
    cpu_s: float = 0.0
    carried: int = 0

    def begin(self) -> None:
        self.cpu_s, self.carried = footprint.cpu_s(self.program.pid), self.relay.carried if self.relay else 0

    def end(self, seconds: float) -> None:
        """Note what it took within the window."""
        if not self.program.alive:
            self.cell.faults.append(f"it ended; see {self.program.log.name}")
            return
        hours = HOUR_S / seconds
        memory = footprint.memory(self.program.pid)
        figures = {"RSS MiB": memory.rss, "PSS MiB": memory.pss, "USS MiB": memory.uss}
        figures["CPU s/h"] = (footprint.cpu_s(self.program.pid) - self.cpu_s) * hours
        if self.relay:
            figures["kB/h"] = (self.relay.carried - self.carried) * hours / 1000
        self.cell.add(figures)


def run(bench: Bench) -> Outcome:
    """As many agents as there would be blocks, with and without TLS, and Celery workers beside them."""
    outcome, window = Outcome(), bench.pick(1, 10) * INTERVAL_S
    with ThreadPoolExecutor() as starting:
        groups = [starting.submit(_workers, bench, outcome)] if bench.peers else []
        lan, loopback = OnTheLan(bench.directory / "lan"), Embedded(bench.directory / "loopback")
        groups.append(starting.submit(_agents, bench, lan, "over TLS"))
        groups.append(starting.submit(_agents, bench, loopback, "plain, on one machine"))
    idlers = [idler for group in groups for idler in group.result()]
    time.sleep(SETTLE_S)
    began = time.monotonic()
    for idler in idlers:
        idler.begin()
    bench.say(f"nobody does anything for {window} s")
    time.sleep(window)
    for idler in idlers:
        idler.end(time.monotonic() - began)
    outcome.cells += {idler.cell.contestant: idler.cell for idler in idlers}.values()
    _judge(outcome)
    return outcome


def _agents(bench: Bench, server: Embedded, words: str) -> list[Idler]:
    """Start a server and its agents, each behind a relay of its own."""
    server.start()
    cell = Cell(CASE, f"{OURS}, {words}", settings=f"heartbeat each {INTERVAL_S} s (default), 1 process")
    found = []
    for number in range(bench.blocks):
        relay = Relay(server.gateway_port)
        bench.stack.callback(relay.close)
        found.append(Idler(cell, _join(server, f"idle-{number}", relay), relay))
    for program in server.programs:
        bench.stack.callback(program.kill)
    api = server.api()
    for number in range(bench.blocks):
        until(partial(_is_there, api, f"devices/idle-{number}"), f"idle-{number}; see {server.directory}")
    api.close()
    return found


def _is_there(api: Api, path: str) -> bool:
    return api.raw("GET", path)[0] == 200


def _join(server: Embedded, name: str, relay: Relay) -> Program:
    where = ("--join", f"127.0.0.1:{relay.port}", "--token", server.token)
    own = ("--data-dir", str(server.directory / name), "--device-id", name)
    return server.launch(name, BIN / "retire-cluster-worker", *where, *own)


def _workers(bench: Bench, outcome: Outcome) -> list[Idler]:
    """Celery workers that find nothing to do."""
    with suppress(NotInstallable):
        peer = CeleryEdge(bench.directory / "celery", bench.cache)
        bench.stack.callback(peer.stop)
        version = peer.client().call("version")["version"]
        cell = Cell(CASE, CELERY, settings=f"Celery {version}, prefork -c 1: 2 processes count")
        names = [f"worker-{number}" for number in range(bench.blocks)]
        programs = [peer.worker(name) for name in names]
        for name in names:
            peer.await_ready(name)
        return [Idler(cell, program) for program in programs]
    outcome.missing[CELERY] = "it cannot be installed"
    return []


def _judge(outcome: Outcome) -> None:
    """By the agent that speaks TLS, which costs more."""
    agent, celery = outcome.cell(CASE, f"{OURS}, over TLS"), outcome.cell(CASE, CELERY)
    outcome.at_most("memory of an idle agent", agent, "RSS MiB", 30, "MiB")
    if celery:
        outcome.times(
            "a Celery worker's memory over an agent's (0.7x)",
            (celery, "RSS MiB"),
            (agent, "RSS MiB"),
            1 / 0.7,
        )
        outcome.times("the same by proportional memory", (celery, "PSS MiB"), (agent, "PSS MiB"), 1 / 0.7)
    outcome.at_most("CPU of an idle agent", agent, "CPU s/h", 5, "s/h")
    outcome.at_most("bytes of an idle agent, both ways", agent, "kB/h", 100, "kB/h")
