"""A fleet of simulated agents on one gateway: they join, beat each 30 s, some die, and the gateway restarts.

Statements are counted by PostgreSQL itself, transaction control included, over all processes of the cluster. The
quick profile has a tenth of the agents, and those goals that grow with their number are a tenth.
"""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import trees
from benchmarks.harness.agents import Agents
from benchmarks.harness.bench import Bench, durable_postgres
from benchmarks.harness.channels_orm import LAYERS, Stock, settings_of
from benchmarks.harness.figures import Cell, Durability, Outcome
from benchmarks.harness.files import allowed
from benchmarks.harness.ours import Production
from benchmarks.harness.statements import counted
from retire_cluster import __version__

NUMBER, TITLE = "S5", "a fleet on one gateway"
FULL, SHARE = 10_000, 0.1  # agents, and of those in the quick profile
DYING = 0.05
INTERVAL_S = 30
JOIN_S, BACK_S = 30.0, 45.0
PATIENCE_S = 240.0
SEEN_S = 30.0
OURS = Production.name


@dataclass(slots=True)
class Server:
    """What the agents connect to. `online` counts by the rows, as an operator's list of devices does."""

    name: str
    settings: str
    database: str
    log: Path  # of its PostgreSQL
    port: int
    token_file: Path
    flags: tuple[str, ...]
    gateway: Callable[[], int]  # its process
    online: Callable[[], int]
    restart: Callable[[], object]


def run(bench: Bench) -> Outcome:
    outcome = Outcome()
    count = int(FULL * (SHARE if bench.quick else 1))
    case = f"{count:,} agents, each beating every {INTERVAL_S} s"
    makers: dict[str, Callable[[ExitStack], Server]] = {OURS: lambda stack: _ours(bench, stack)}
    if bench.peers:
        layers = list(LAYERS.items())[: bench.pick(1, len(LAYERS))]  # heartbeats hardly touch the layer
        makers |= {name: _maker(bench, name, layer) for name, layer in layers}
    with allowed(2 * count):
        for name, make in makers.items():
            cell = Cell(case, name, Durability.COMMITTED)
            outcome.cells.append(cell)
            try:
                with ExitStack() as stack:
                    server = make(stack)
                    cell.settings = server.settings
                    _live(bench, stack, server, cell, count)
            except Exception as error:
                cell.faults.append(f"{type(error).__name__}: {error}")
                bench.say(f"{name}: {cell.faults[-1]}")
    _judge(outcome, case, count / FULL)
    return outcome


def _live(bench: Bench, stack: ExitStack, server: Server, cell: Cell, count: int) -> None:
    """The life of the fleet. Each thing happens once: it has no blocks."""
    empty = trees.rss_mib([server.gateway()])
    log = bench.directory / f"agents-{server.port}.log"
    began = time.monotonic()
    with trees.spent([server.gateway()]) as cost:
        agents = Agents(server.port, server.token_file, count, log, flags=server.flags)
        stack.callback(agents.stop)
        agents.wait(count, PATIENCE_S)
    cell.add({"joined s": time.monotonic() - began, "CPU ms a join": 1000 * cost.cpu_s / count})
    bench.say(f"{server.name}: {count} joined within {time.monotonic() - began:.1f} s")

    time.sleep(3)  # what they still say after the welcome
    cell.add({"KiB each": 1024 * (trees.rss_mib([server.gateway()]) - empty) / count})
    seconds = bench.pick(INTERVAL_S // 2, 2 * INTERVAL_S)
    with counted(server.database, server.log) as statements, trees.spent([server.gateway()]) as cost:
        time.sleep(seconds)
    cell.add({"at rest % of a core": 100 * cost.cpu_s / seconds, "SQL/s": statements.a_second})
    common = Counter(text[:60] for text in statements.texts).most_common(6)
    bench.say(f"{server.name}: {statements.a_second:.1f} SQL/s: {common}")
    cell.add({"falsely offline": float(agents.status()["lost"] + count - server.online())})

    dying = int(count * DYING)
    began = time.monotonic()
    agents.kill(dying)
    cell.add({"dead seen s": _until(lambda: server.online() == count - dying, began)})
    cell.add({"falsely offline, then": float(agents.status()["lost"])})

    began = time.monotonic()
    server.restart()
    agents.wait(count - dying, PATIENCE_S)
    cell.add({"back s": time.monotonic() - began})
    cell.add({"back by the rows s": _until(lambda: server.online() == count - dying, began)})
    shown = ", ".join(f"{name} {values[-1]:.4g}" for name, values in cell.figures.items())
    bench.say(f"{server.name}: {shown}")


def _until(condition: Callable[[], bool], began: float) -> float:
    """Seconds until it is so; infinite where it does not become so."""
    deadline = time.monotonic() + SEEN_S
    while time.monotonic() < deadline:
        if condition():
            return time.monotonic() - began
        time.sleep(0.2)
    return float("inf")


def _judge(outcome: Outcome, case: str, share: float) -> None:
    ours = outcome.cell(case, OURS)
    outcome.at_most("all registered", ours, "joined s", JOIN_S * share, "s")
    outcome.at_most("memory of the gateway", ours, "KiB each", 40, "KiB each")
    outcome.at_most("at rest", ours, "at rest % of a core", 10 * share, "% of a core")
    outcome.at_most("statements at rest", ours, "SQL/s", 2, "a second")
    outcome.at_most("falsely offline", ours, "falsely offline", 0, "devices")
    outcome.at_most("falsely offline when others died", ours, "falsely offline, then", 0, "devices")
    outcome.at_most("the dead seen", ours, "dead seen s", SEEN_S, "s")
    outcome.at_most("all back after a restart", ours, "back s", BACK_S, "s")


def _ours(bench: Bench, stack: ExitStack) -> Server:
    log = bench.directory / "postgres.log"
    database = stack.enter_context(durable_postgres(log))
    cluster = Production(bench.directory / "ours", database.url, database.pid)
    stack.callback(cluster.stop)
    cluster.start()
    api = cluster.api()
    stack.callback(api.close)
    api.call("PUT", "config/server", {"max_connections": 2 * FULL})
    api.call("PUT", "config/heartbeat", {"interval": INTERVAL_S})

    def gateway() -> int:
        return next(program.pid for program in reversed(cluster.programs) if program.log.stem == "gateway")

    def restart() -> None:
        found = next(program for program in cluster.programs if program.log.stem == "gateway")
        found.kill()
        cluster.programs.remove(found)
        cluster.start_gateway()

    def online() -> int:
        fresh = cluster.api()  # the server does not keep a connection for long
        try:
            return int(fresh.call("GET", "devices/summary")["by_status"]["online"])
        finally:
            fresh.close()

    settings = f"Retire-Cluster {__version__}; one gateway, one gunicorn worker, Celery"
    token_file = cluster.data_dir / "join-token"
    return Server(
        OURS, settings, database.url, log, cluster.gateway_port, token_file, (), gateway, online, restart
    )


def _maker(bench: Bench, name: str, layer: str) -> Callable[[ExitStack], Server]:
    def make(stack: ExitStack) -> Server:
        stock = Stock(bench, stack, layer)
        token_file = bench.directory / "no-token"
        token_file.touch()
        return Server(
            name,
            settings_of(stock, layer),
            stock.database.url,
            stock.directory / "postgres.log",
            stock.port,
            token_file,
            ("--stock",),
            lambda: stock.sockets_pid,
            lambda: stock.count(online=True),
            stock.restart_sockets,
        )

    return make
