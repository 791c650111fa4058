"""Ours as a contestant: no-ops (`echo`) through the REST API, and what became of each read from the database."""

import json
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.harness.bench import Bench, durable_postgres
from benchmarks.harness.contestants import Latencies, Run, over_http
from benchmarks.harness.figures import Durability
from benchmarks.harness.ours import Embedded, Ours, Production
from benchmarks.harness.peers import exactly
from benchmarks.harness.rest import Answer, Line, flood, request
from retire_cluster import __version__
from retire_cluster.protocol.states import LIVE, TERMINAL, TaskStatus

AGENTS, SLOTS = 2, 16
BATCH, CLIENTS = 1000, 8
WAIT_S = 30  # of one long-poll
_LOOK_S = 0.02
_UNDONE = ",".join(sorted({TaskStatus.PENDING, TaskStatus.QUEUED, *LIVE}))
# Every task from one on (ids are in order of time) with its deciding attempt, and how many attempts it had.
_ENDS = """
    SELECT task.id, task.status, task.attempt_no, attempt.result
    FROM tasks_task task LEFT JOIN tasks_attempt attempt ON attempt.id = task.result_attempt
    WHERE task.id >= {first} AND task.task_type = 'echo'
"""


class Noops:
    """A started cluster of ours with agents of SLOTS slots each that run `echo`."""

    durability = Durability.COMMITTED

    def __init__(self, ours: Ours, settings: str) -> None:
        self.ours, self.name, self.settings = ours, ours.name, settings
        self._headers = (f"X-API-Key: {ours.key}",)

    @property
    def roots(self) -> Sequence[int]:
        return self.ours.roots

    def latency(self, count: int) -> Latencies:
        requests = [self._post(f"tasks?wait={WAIT_S}", _task(number)) for number in range(count)]
        return over_http(self.ours.port, requests, _judge)

    def batch(self, count: int) -> Run:
        """Submits of BATCH, one after the other."""
        starts = range(0, count, BATCH)
        groups = [[_task(number) for number in range(start, min(count, start + BATCH))] for start in starts]
        requests = [self._post("tasks/batch", {"tasks": group}) for group in groups]
        with Line(self.ours.port) as line:
            began = time.perf_counter()
            answers = [line.ask(data) for data in requests]
            submit_s = time.perf_counter() - began
            self._await_end(line, _data(answers[-1])["tasks"][-1]["task_id"])
            total_s = time.perf_counter() - began

        def check() -> list[str]:
            return self._check([task["task_id"] for answer in answers for task in _data(answer)["tasks"]])

        return Run(submit_s, total_s, check)

    def single(self, count: int) -> Run:
        """One task a request, by CLIENTS clients."""
        requests = [self._post("tasks", _task(number)) for number in range(count)]
        began = time.perf_counter()
        answers = flood(self.ours.port, requests, CLIENTS)
        submit_s = time.perf_counter() - began
        with Line(self.ours.port) as line:
            self._await_end(line, _data(answers[-1])["task_id"])
        total_s = time.perf_counter() - began
        return Run(submit_s, total_s, lambda: self._check([_data(answer)["task_id"] for answer in answers]))

    def _await_end(self, line: Line, last: str) -> None:
        """Wait for the last one, which is nearly the last to end, then for whatever is still under way."""
        wait = self._get(f"tasks/{last}/status?wait={WAIT_S}")
        while _data(line.ask(wait))["status"] not in TERMINAL:
            pass
        undone = self._get(f"tasks?cursor=&page_size=1&task_type=echo&status={_UNDONE}")
        while _data(line.ask(undone)):
            time.sleep(_LOOK_S)

    def _check(self, ids: Sequence[str]) -> list[str]:
        numbers = {task_id.replace("-", ""): number for number, task_id in enumerate(ids)}
        rows = self.ours.rows(_ENDS, first=min(ids))
        right = sum(
            status == TaskStatus.SUCCESS
            and attempts == 1
            and json.loads(result) == {"echo": {"number": numbers.get(task_id)}}
            for task_id, status, attempts, result in rows
        )
        return exactly(len(ids), ids=len(numbers), results=len(rows), right=right)

    def _post(self, path: str, body: Any) -> bytes:
        return request("POST", f"/api/v1/{path}", json.dumps(body).encode(), self._headers)

    def _get(self, path: str) -> bytes:
        return request("GET", f"/api/v1/{path}", headers=self._headers)


def embedded(bench: Bench, purpose: str = "", *flags: str) -> Noops:
    """Start the embedded shape with its agents; `purpose` names it where there are several."""
    return _start(bench, Embedded(bench.directory / f"embedded{purpose}"), "SQLite, one process", *flags)


def production(bench: Bench, purpose: str = "", *flags: str) -> Noops:
    """Start the production shape with its agents."""
    directory = bench.directory / f"production{purpose}"
    directory.mkdir()
    database = bench.stack.enter_context(durable_postgres(directory / f"postgres{purpose}.log"))
    parts = "PostgreSQL (fsync on), Redis, gunicorn 1 x 8 threads, gateway, Celery"
    return _start(bench, Production(directory, database.url, database.pid), parts, *flags)


def _start(bench: Bench, ours: Ours, parts: str, *flags: str) -> Noops:
    bench.say(f"starting {ours.name}")
    bench.stack.callback(ours.stop)
    ours.start()
    for number in range(AGENTS):
        ours.join(f"agent-{number}", "--slots", str(SLOTS), "--task-types", "echo", *flags)
    return Noops(ours, f"retire-cluster {__version__}; {parts}; {AGENTS} agents x {SLOTS} slots")


def _task(number: int) -> dict[str, Any]:
    return {"task_type": "echo", "payload": {"number": number}}


def _data(answer: Answer) -> Any:
    if not 200 <= answer.status < 300:
        raise RuntimeError(f"{answer.status} {answer.body[:300]!r}")
    return json.loads(answer.body)["data"]


def _judge(answers: Sequence[Answer]) -> list[str]:
    tasks = [_data(answer)["task"] for answer in answers]
    wrong = [
        str(task)
        for number, task in enumerate(tasks)
        if (task["status"], task["result"]) != (TaskStatus.SUCCESS, {"echo": {"number": number}})
    ]
    doubled = len(tasks) - len({task["task_id"] for task in tasks})
    return wrong + ([f"{doubled} ids came twice"] if doubled else [])
