"""From a command to the first thing it is good for: a server's first result, an agent's registration.

A server starts as the tutorial has it, on an empty data directory with a local node; a client that knows its port
asks every few milliseconds until it is let in, and submits one task. Compiled modules are there, as an installed
package has them: the block that does not count leaves them.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from benchmarks.harness import trees
from benchmarks.harness.bench import Bench, Measure
from benchmarks.harness.celery_edge import NAME as CELERY
from benchmarks.harness.celery_edge import CeleryEdge
from benchmarks.harness.figures import Cell, Durability, Outcome
from benchmarks.harness.ours import BIN, CannotStart, Embedded, Program
from benchmarks.harness.venvs import NotInstallable

NUMBER = "S9"
TITLE = "cold start: an empty directory to the first result; an agent to its registration"

SERVER, AGENT = "a whole cluster", "one more device"
RESULT, REGISTERED = "to first result s", "to registered s"
POLL_S = 0.005
PATIENCE_S = 60


class Fresh(Embedded):
    """`retire-cluster-api` with what it starts by itself: gateway, Celery worker, local node."""

    name = "ours (SQLite)"

    def start(self) -> None:
        """Return at once."""
        where = ("--port", str(self.port), "--cluster-port", str(self.gateway_port))
        flags = (
            "--data-dir",
            self.data_dir,
            "--embedded",
            "--no-rate-limit",
        )  # a client that asks all the time
        self.launch("server", BIN / "retire-cluster-api", *where, *flags)

    def first_result(self) -> object:
        """Of an echo, submitted as soon as somebody listens; None while nobody does."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            body = json.dumps({"task_type": "echo", "payload": {"message": "hello"}})
            headers = {"Content-Type": "application/json"}
            connection.request("POST", f"/api/v1/tasks?wait={PATIENCE_S // 2}", body, headers)
            answer = connection.getresponse()
            return json.loads(answer.read())["data"]["task"] if answer.status == 201 else None
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def agent(self, name: str) -> Program:
        where = ("--join", f"127.0.0.1:{self.gateway_port}", "--token", self.token)
        own = ("--data-dir", str(self.directory / name), "--device-id", name)
        return self.launch(name, BIN / "retire-cluster-worker", *where, *own)


def run(bench: Bench) -> Outcome:
    """Servers of ours and of the peer in turn; then agents at the last server."""
    outcome = Outcome()
    server = Cell(SERVER, Fresh.name, Durability.COMMITTED, "retire-cluster-api on an empty directory")
    contestants: list[tuple[Cell, Measure]] = [(server, _block(bench, _server))]
    if bench.peers:
        contestants += _peer(bench, outcome)
    bench.interleave(contestants)
    outcome.cells += [cell for cell, _ in contestants]
    outcome.cells.append(_agents(bench))
    cluster = outcome.cell(SERVER, Fresh.name)
    outcome.at_most("empty directory to first result", cluster, RESULT, 4, "s")
    device = outcome.cell(AGENT, "agent")
    outcome.at_most("agent start to registered", device, REGISTERED, 0.4, "s")
    return outcome


def _block(bench: Bench, measure: Callable[[Path], tuple[dict[str, float], list[str]]]) -> Measure:
    """A measurement in a directory of its own each time."""
    turns = iter(range(1000))
    return lambda: measure(bench.directory / f"{measure.__name__}{next(turns)}")


def _server(directory: Path) -> tuple[dict[str, float], list[str]]:
    cluster = Fresh(directory)
    began = time.perf_counter()
    cluster.start()
    try:
        found = _wait(cluster.first_result, f"a first result; see {directory}")
        took = time.perf_counter() - began
        faults = [] if _is_right(found) else [f"the first result is {found}"]
        return {RESULT: took, "CPU s": trees.cpu_s(cluster.roots)}, faults
    finally:
        cluster.programs[0].kill()


def _is_right(task: object) -> bool:
    return (
        isinstance(task, dict)
        and task["status"] == "success"
        and task["result"] == {"echo": {"message": "hello"}}
    )


def _peer(bench: Bench, outcome: Outcome) -> list[tuple[Cell, Measure]]:
    """A Celery worker whose Redis is up, and whose client has imported all it needs: both count for ours."""

    def celery(directory: Path) -> tuple[dict[str, float], list[str]]:
        peer = CeleryEdge(directory, bench.cache)
        try:
            client = peer.client()
            client.call("version")
            began = time.perf_counter()
            worker = peer.worker()
            found = client.call("first_result", timeout_s=PATIENCE_S)["value"]
            took = time.perf_counter() - began
            faults = [] if found == "hello" else [f"the first result is {found}"]
            return {RESULT: took, "CPU s": trees.cpu_s([worker.pid])}, faults
        finally:
            peer.stop()

    with suppress(NotInstallable):
        peer = CeleryEdge(bench.directory / "version", bench.cache)
        version = peer.client().call("version")["version"]
        peer.stop()
        cell = Cell(SERVER, CELERY, Durability.VOLATILE, f"Celery {version}: redis-server, worker -c 1")
        return [(cell, _block(bench, celery))]
    outcome.missing[CELERY] = "it cannot be installed"
    return []


def _agents(bench: Bench) -> Cell:
    """Agents of a cluster that is up, one after the other: from the command until the API knows the device."""
    cluster = Fresh(bench.directory / "agents")
    bench.stack.callback(cluster.stop)
    cluster.start()
    _wait(cluster.first_result, f"a first result; see {cluster.directory}")
    cell = Cell(AGENT, "agent", settings="retire-cluster-worker; on loopback, so without TLS")
    api, names = cluster.api(), iter(range(1000))

    def measure() -> tuple[dict[str, float], list[str]]:
        name = f"agent-{next(names)}"
        began = time.perf_counter()
        agent = cluster.agent(name)
        _wait(lambda: api.raw("GET", f"devices/{name}")[0] == 200, f"{name} to join; see {agent.log}")
        figures = {REGISTERED: time.perf_counter() - began, "CPU s": trees.cpu_s([agent.pid])}
        agent.kill()
        return figures, []

    for _ in range(2):  # a start is short: more of them
        bench.interleave([(cell, measure)])
    return cell


def _wait(condition: Callable[[], object], what: str) -> object:
    """The condition's first true answer. Raises CannotStart."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise CannotStart(f"waited {PATIENCE_S} s in vain for {what}")
        time.sleep(POLL_S)
    return found
