"""A million tasks submitted by batches, no agent connected: how long it takes, what the server keeps of them."""

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg

from benchmarks.harness import trees
from benchmarks.harness.bench import Bench, Measure, durable_postgres
from benchmarks.harness.figures import Cell, Durability, Outcome
from benchmarks.harness.ours import Embedded, Ours, Production

NUMBER = "S3"
TITLE = "1,000,000 tasks submitted by batches of 1,000, no agent connected"

MILLION, BATCH, CLIENTS, PROFILES = 1_000_000, 1000, 2, 8
CASE = "batches of 1,000"
SECONDS, GROWTH = "s for 1,000,000", "B kept a task"
_TASK_ID = re.compile(rb'"task_id":"([0-9a-f-]{36})"')


def run(bench: Bench) -> Outcome:
    """Both shapes in turn; a block submits its part, so that all blocks together make the whole."""
    tasks = bench.pick(50_000, MILLION)  # of fewer, what a server keeps anyway is most
    with durable_postgres(bench.directory / "postgres.log") as server, ExitStack() as servers:
        production = Production(bench.directory / "production", server.url, server.pid)
        embedded = Embedded(bench.directory / "embedded")
        file = embedded.data_dir / "retire-cluster.sqlite3"
        submissions = [
            Submission(production, lambda: _in_postgres(server.url), {server.pid}),
            Submission(embedded, lambda: _in_sqlite(file)),
        ]
        for submission in submissions:
            servers.callback(submission.ours.stop)
            submission.ours.start()
        batches = max(1, tasks // bench.blocks // BATCH)
        bench.interleave([(item.cell, item.block(batches)) for item in submissions])
        for item in submissions:
            item.conclude()
    outcome = Outcome([item.cell for item in submissions])
    scaled = "" if tasks == MILLION else f", scaled from {tasks:,}"
    for name in (production.name, embedded.name):
        cell = outcome.cell(CASE, name)
        outcome.at_most(f"{name}: 1,000,000 tasks{scaled}", cell, SECONDS, 90, "s")
        outcome.at_most(f"{name}: memory kept of each", cell, GROWTH, 400, "B")
    return outcome


class Submission:
    """One shape, and what was submitted to it. `elsewhere` are processes whose memory is not the server's own."""

    def __init__(
        self, ours: Ours, stored: Callable[[], int], elsewhere: AbstractSet[int] = frozenset()
    ) -> None:
        self.ours = ours
        self.cell = Cell(CASE, ours.name, Durability.COMMITTED, f"{CLIENTS} clients, {PROFILES} profiles")
        self._stored, self._elsewhere = stored, elsewhere
        self._ids: set[bytes] = set()
        self._from_b, self._from_tasks = (
            0.0,
            0,
        )  # after the warm-up: what a server keeps anyway is there by then

    def block(self, batches: int) -> Measure:
        """So many batches each time. The first call is the warm-up."""

        def measure() -> tuple[dict[str, float], list[str]]:
            share = [range(start, batches, CLIENTS) for start in range(CLIENTS)]
            with ThreadPoolExecutor(CLIENTS) as pool, trees.spent(self.ours.roots) as cost:
                began = time.monotonic()
                answers = [answer for part in pool.map(self._submit, share) for answer in part]
                took = time.monotonic() - began
            figures, faults = self._judged(answers, batches * BATCH, took)
            if not self._from_tasks:
                self._from_tasks, self._from_b = len(self._ids), self._memory_b()
            return {**figures, "CPU s per 1,000": cost.cpu_s / batches}, faults

        return measure

    def conclude(self) -> None:
        """What all measured blocks left in the server's memory."""
        if (more := len(self._ids) - self._from_tasks) > 0:
            self.cell.add({GROWTH: (self._memory_b() - self._from_b) / more})

    def _submit(self, numbers: Iterable[int]) -> list[tuple[int, bytes]]:
        api = self.ours.api()
        answers = [api.raw("POST", "tasks/batch", BODIES[number % len(BODIES)]) for number in numbers]
        api.close()
        return answers

    def _judged(
        self, answers: list[tuple[int, bytes]], tasks: int, took: float
    ) -> tuple[dict[str, float], list[str]]:
        """Every task was answered with an id of its own, and is in the database."""
        faults = [f"{status} {body[:200]!r}" for status, body in answers if status != 201][:3]
        before = len(self._ids)
        for _, body in answers:
            self._ids.update(_TASK_ID.findall(body))
        if len(self._ids) - before != tasks or self._stored() != len(self._ids):
            faults.append(
                f"{tasks} submitted, {len(self._ids) - before} answered; {self._stored()} in all stored"
            )
        return {SECONDS: took * MILLION / tasks, "tasks/s": tasks / took}, faults

    def _memory_b(self) -> float:
        """Of the server's processes, without the database's."""
        own = [pid for pid in self.ours.roots if pid not in self._elsewhere]
        return 2**20 * trees.rss_mib(own)


def _bodies() -> list[str]:
    """Batches as text, made once: what a client spends on them is not what is measured."""
    needs = [{"min_memory_gb": number % PROFILES} if number % PROFILES else {} for number in range(BATCH)]
    return [
        json.dumps(
            {
                "tasks": [
                    {"task_type": "echo", "payload": {"batch": batch, "number": number}, "requirements": need}
                    for number, need in enumerate(needs)
                ]
            }
        )
        for batch in range(4)
    ]


BODIES = _bodies()


def _in_postgres(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM tasks_task WHERE status = 'queued'").fetchone()
    return int(row[0]) if row else 0


def _in_sqlite(file: Path) -> int:
    connection = sqlite3.connect(file, timeout=60)
    try:
        return int(
            connection.execute("SELECT count(*) FROM tasks_task WHERE status = 'queued'").fetchone()[0]
        )
    finally:
        connection.close()
