"""Pages of the task list over HTTP on a large table, at any depth, beside a stock DRF project; the statistics."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import psycopg

from benchmarks.harness import trees
from benchmarks.harness.bench import Bench, Measure, durable_postgres
from benchmarks.harness.figures import Cell, Outcome, percentile
from benchmarks.harness.manytasks import Filled, fill_postgres, fill_sqlite
from benchmarks.harness.ours import Embedded, Ours, Production, Program, until
from benchmarks.harness.venvs import PEERS, NotInstallable, python_of
from retire_cluster.torture import postgres
from retire_cluster.torture.processes import free_port

NUMBER = "S4"
TITLE = "a page of 50 tasks over HTTP from a large table, first, deep and filtered; statistics"

PAGE = 50
STOCK = "stock DRF"
THREADS = 8  # of gunicorn's only worker, as ours
ABOUT = "Django 5.2, DRF 3.18: ModelSerializer, PageNumberPagination, django-filter; kept connections"
FIRST, NEWEST, DEEP = "first page, with its total", "first page, by cursor", "deep page"
FAILED, DEEP_DONE, TYPED = "failed, first page", "succeeded, deep page", "one type, first page"
STATISTICS = "statistics"
LISTS = (FIRST, NEWEST, DEEP, FAILED, DEEP_DONE, TYPED)


class Visitor:
    """Asks one server for one page, on a kept connection."""

    def __init__(self, port: int, path: str, key: str = "") -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=120)
        self._path = path
        self._headers = {"Accept": "application/json", **({"X-API-Key": key} if key else {})}

    def begin(self) -> None:
        """Connect anew: a server ends a connection that was idle while others had their turn."""
        self._connection.close()
        self._connection.connect()

    def ask(self) -> bytes:
        """The page. Raises RuntimeError for anything but a 200."""
        self._connection.request("GET", self._path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{self._path}: {answer.status} {body[:300]!r}")
        return body


@dataclass(frozen=True, slots=True)
class Stock:
    """The stock project, serving. `roots` are the processes that count as its cost."""

    port: int
    roots: list[int]


def run(bench: Bench) -> Outcome:
    """PostgreSQL beside the stock project on the same table, then SQLite."""
    outcome = Outcome()
    # In the quick profile as many as a stock project needs to become slow, and for SQLite half of them.
    count, of_embedded = bench.pick(400_000, 1_000_000), bench.pick(200_000, 1_000_000)
    with durable_postgres(bench.directory / "postgres.log") as server:
        ours = Production(bench.directory / "production", server.url, server.pid)
        bench.stack.callback(ours.stop)
        ours.start()
        filled = _filled(bench, lambda: fill_postgres(server.url, count))
        _measured(bench, outcome, ours, filled, _stock(bench, outcome, server))
        ours.stop()
        _goals(outcome, ours.name)
        for name in (DEEP, DEEP_DONE):
            slower, faster = outcome.cell(name, STOCK), outcome.cell(name, ours.name)
            outcome.times(f"{name}, faster than stock DRF", (slower, "p50 ms"), (faster, "p50 ms"), 15)
    embedded = Embedded(bench.directory / "embedded")
    bench.stack.callback(embedded.stop)
    embedded.start()
    filled = _filled(bench, lambda: fill_sqlite(embedded.data_dir / "retire-cluster.sqlite3", of_embedded))
    _measured(bench, outcome, embedded, filled, None)
    _goals(outcome, embedded.name)
    return outcome


def _goals(outcome: Outcome, ours: str) -> None:
    for name in LISTS:
        outcome.at_most(f"{ours}: {name}, p50", outcome.cell(name, ours), "p50 ms", 8, "ms")
    outcome.at_most(f"{ours}: statistics, p50", outcome.cell(STATISTICS, ours), "p50 ms", 10, "ms")


def _filled(bench: Bench, fill: Callable[[], Filled]) -> Filled:
    began = time.monotonic()
    filled = fill()
    bench.say(f"{filled.count:,} tasks written in {time.monotonic() - began:.0f} s")
    return filled


def _stock(bench: Bench, outcome: Outcome, server: postgres.Server) -> Stock | None:
    """The stock project on the table of ours; None with a word in the outcome where it cannot be installed."""
    if not bench.peers:
        return None
    try:
        python = python_of("drf_stock", bench.cache)
    except NotInstallable as error:
        outcome.missing[STOCK] = str(error)
        return None
    with psycopg.connect(server.url) as connection:
        host, user, name = connection.info.host, connection.info.user, connection.info.dbname
    project = PEERS / "drf_stock"
    variables = {"STOCK_HOST": host, "STOCK_USER": user, "STOCK_NAME": name, "PYTHONPATH": str(project)}
    port = free_port()
    threads = ("-w", "1", "--threads", str(THREADS))
    command = (python.parent / "gunicorn", *threads, "-b", f"127.0.0.1:{port}", "stock:app")
    program = Program(command, bench.directory / "stock.log", variables)
    bench.stack.callback(program.stop)
    until(lambda: _answers(port), f"the stock project; see {program.log}")
    return Stock(port, [program.pid, server.pid])


def _answers(port: int) -> bool:
    try:
        return bool(Visitor(port, "/tasks/?status=none").ask())
    except OSError:
        return False


def _measured(bench: Bench, outcome: Outcome, ours: Ours, filled: Filled, stock: Stock | None) -> None:
    """Every case for the server of ours, and for the stock project where it runs."""
    repeats = bench.pick(30, 300)
    contestants: list[tuple[Cell, Measure]] = []
    for name, (our_path, stock_path) in _paths(ours, filled).items():
        visitor = Visitor(ours.port, our_path, ours.key)
        cell = Cell(name, ours.name, settings=f"{filled.count:,} rows; an API key, no rate limits")
        contestants.append((cell, _block(visitor, ours.roots, repeats)))
        if stock is not None and stock_path is not None:
            beside = Visitor(stock.port, stock_path)
            if _ids(visitor.ask()) != _ids(beside.ask()):
                cell.faults.append(f"not the tasks of the stock project's {stock_path}")
            rarely = max(8, repeats // 10)  # it takes its time
            contestants.append((Cell(name, STOCK, settings=ABOUT), _block(beside, stock.roots, rarely)))
    bench.interleave(contestants)
    outcome.cells += [cell for cell, _ in contestants]


def _paths(ours: Ours, filled: Filled) -> dict[str, tuple[str, str | None]]:
    """By case: the path of ours, and the path of the stock project that shows the same rows."""
    depth = filled.count // 10 * 9
    succeeded = depth // 100 * 92  # of those before
    api, stock = f"/api/v1/tasks?page_size={PAGE}", "/tasks/?"
    deep, deep_done = f"page={depth // PAGE + 2}", f"status=success&page={succeeded // PAGE + 2}"
    before = filled.before(depth)
    return {
        FIRST: (api, f"{stock}page=1"),
        NEWEST: (f"{api}&cursor=", None),
        DEEP: (_below(ours, api, before), stock + deep),
        FAILED: (f"{api}&status=failed", f"{stock}status=failed"),
        DEEP_DONE: (_below(ours, f"{api}&status=success", before), stock + deep_done),
        TYPED: (f"{api}&task_type=command", f"{stock}task_type=command"),
        STATISTICS: ("/api/v1/tasks/statistics", None),
    }


def _below(ours: Ours, path: str, before: str) -> str:
    """The page after the one that begins before a moment: what a client that pages by cursor asks for."""
    page = json.loads(Visitor(ours.port, f"{path}&cursor=&created_before={before}", ours.key).ask())
    return f"{path}&cursor={page['pagination']['next_cursor']}"


def _block(visitor: Visitor, roots: list[int], repeats: int) -> Measure:
    def measure() -> tuple[dict[str, float], list[str]]:
        took = []
        visitor.begin()
        with trees.spent(roots) as cost:
            for _ in range(repeats):
                began = time.perf_counter()
                visitor.ask()
                took.append(1000 * (time.perf_counter() - began))
        figures = {"p50 ms": percentile(took, 0.5), "p95 ms": percentile(took, 0.95), "most ms": max(took)}
        return {**figures, "CPU ms a page": 1000 * cost.cpu_s / repeats}, []

    return measure


def _ids(body: bytes) -> list[str]:
    """Of the tasks on a page, ours or theirs."""
    page: dict[str, Any] = json.loads(body)
    return [row.get("task_id") or row["id"] for row in page.get("data") or page["results"]]
