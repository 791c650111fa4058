"""The peers that run no-ops, each started as its documentation starts it, with two workers."""

import json
import time
from collections.abc import Callable, Sequence
from http.client import HTTPConnection
from urllib.parse import unquote, urlsplit

from benchmarks.harness.bench import Bench
from benchmarks.harness.contestants import Latencies, Run, over_http
from benchmarks.harness.figures import Durability, Outcome
from benchmarks.harness.ours import CannotStart, until
from benchmarks.harness.peers import Peer, Stage, exactly
from benchmarks.harness.rest import Answer, flood, request
from benchmarks.harness.talking import CallFailed, Talker
from benchmarks.harness.venvs import NotInstallable
from retire_cluster.torture.processes import free_port

CELERY_REDIS, CELERY_POSTGRES = "Celery + Redis", "Celery + PostgreSQL results"
FLOWER, PROCRASTINATE = "Flower + Celery + Redis", "procrastinate"
DASK, RAY = "Dask distributed", "Ray"
CLIENTS = 8
END_S = 600.0  # for the tasks of a block, once all are submitted


def start(bench: Bench, names: Sequence[str], outcome: Outcome) -> dict[str, Peer]:
    """Those of the peers that run here; the others are `missing` in the outcome."""
    found: dict[str, Peer] = {}
    for name in names if bench.peers else ():
        bench.say(f"starting {name}")
        try:
            found[name] = _STARTS[name](bench)
        except (NotInstallable, CannotStart, CallFailed) as error:
            outcome.missing[name] = str(error)
    return found


def _celery(stage: Stage) -> None:
    """Two processes that take tasks, and acknowledge them when they ended."""
    flags = ("--concurrency", "2", "--loglevel", "WARNING")
    stage.launch("worker", stage.script("celery"), "-A", "bench_app", "worker", *flags)


def _celery_redis(bench: Bench) -> Peer:
    stage = Stage(bench, "celery_redis")
    stage.redis()
    _celery(stage)
    settings = f"{stage.pins('celery', 'redis')}; prefork 2, acks_late, results in Redis in memory"
    return Peer(CELERY_REDIS, Durability.VOLATILE, settings, stage.roots, stage.client())


def _celery_postgres(bench: Bench) -> Peer:
    stage = Stage(bench, "celery_postgres")
    stage.redis()
    stage.variables["BENCH_POSTGRES"] = unquote(urlsplit(stage.postgres()).netloc.rpartition("@")[2])
    client = stage.client()
    client.call("prepare")
    _celery(stage)
    pins = stage.pins("celery", "django_celery_results", "Django", "psycopg")
    polls = "polls each 2 ms (default 500), a connection a task (as by default)"
    settings = f"{pins}; prefork 2, acks_late, {polls}, fsync on"
    return Peer(CELERY_POSTGRES, Durability.COMMITTED, settings, stage.roots, client)


def _procrastinate(bench: Bench) -> Peer:
    stage = Stage(bench, "procrastinate")
    stage.variables["BENCH_POSTGRES"] = stage.postgres()
    client = stage.client()
    client.call("prepare")
    for number in (1, 2):
        worker = ("--app", "bench_app.app", "worker", "--concurrency", "16")
        stage.launch(f"worker-{number}", stage.script("procrastinate"), *worker)
    settings = f"{stage.pins('procrastinate', 'psycopg')}; 2 workers x 16, polls each 2 ms, no results kept"
    return Peer(PROCRASTINATE, Durability.COMMITTED, f"{settings}, fsync on", stage.roots, client)


def _dask(bench: Bench) -> Peer:
    stage = Stage(bench, "dask")
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    dask = stage.script("dask")
    here = ("--host", "127.0.0.1", "--no-dashboard")
    stage.launch("scheduler", dask, "scheduler", "--port", str(port), *here)
    local = ("--local-directory", stage.directory)
    stage.launch("workers", dask, "worker", address, "--nworkers", "2", "--nthreads", "1", *here, *local)
    stage.variables["BENCH_SCHEDULER"] = address
    settings = f"{stage.pins('distributed')}; 2 workers, no dashboard"
    return Peer(DASK, Durability.MEMORY, settings, stage.roots, stage.client())


def _ray(bench: Bench) -> Peer:
    stage = Stage(bench, "ray")
    stage.variables |= {"BENCH_DIRECTORY": str(stage.directory), "RAY_USAGE_STATS_ENABLED": "0"}
    settings = f"{stage.pins('ray')}; num_cpus=2, no dashboard"
    return Peer(RAY, Durability.MEMORY, settings, stage.roots, stage.client())


class Flower(Peer):
    """Spoken to over HTTP from here, as ours is; its client only looks after the results."""

    def __init__(self, settings: str, roots: Sequence[int], client: Talker, port: int) -> None:
        super().__init__(FLOWER, Durability.VOLATILE, settings, roots, client)
        self._port = port

    def latency(self, count: int) -> Latencies:
        requests = [_flower_request("apply", number) for number in range(count)]
        return over_http(self._port, requests, _judge)

    def single(self, count: int) -> Run:
        """So many submits by CLIENTS clients."""
        requests = [_flower_request("async-apply", number) for number in range(count)]
        before = self.client.call("stored")["count"]
        began = time.perf_counter()
        answers = flood(self._port, requests, CLIENTS)
        submit_s = time.perf_counter() - began
        refused = [answer for answer in answers if answer.status != 200]
        if refused:
            raise RuntimeError(f"Flower refused {len(refused)} of {count}, such as {refused[0]}")
        until(lambda: self.client.call("stored")["count"] >= before + count, "the results", END_S)
        total_s = time.perf_counter() - began
        return Run(submit_s, total_s, lambda: self._check(answers))

    def _check(self, answers: Sequence[Answer]) -> list[str]:
        ids = {json.loads(answer.body)["task-id"]: number for number, answer in enumerate(answers)}
        return exactly(len(answers), **self.client.call("check", ids=ids))


def _flower_request(what: str, number: int) -> bytes:
    return request("POST", f"/api/task/{what}/noop", json.dumps({"args": [number]}).encode())


def _judge(answers: Sequence[Answer]) -> list[str]:
    return [
        f"task {number}: {answer.status} {answer.body[:200]!r}"
        for number, answer in enumerate(answers)
        if answer.status != 200 or json.loads(answer.body)["result"] != number
    ]


def _flower(bench: Bench) -> Peer:
    stage = Stage(bench, "flower", "celery_redis")
    stage.redis()
    _celery(stage)
    port = free_port()
    stage.variables["FLOWER_UNAUTHENTICATED_API"] = "true"
    where = ("--address=127.0.0.1", f"--port={port}", "--logging=WARNING")
    stage.launch("flower", stage.script("celery"), "-A", "bench_app", "flower", *where)
    until(lambda: _answers(port), "Flower")
    settings = f"{stage.pins('flower', 'celery', 'redis')}; prefork 2, acks_late, results in Redis in memory"
    return Flower(settings, stage.roots, stage.client(), port)


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


_STARTS: dict[str, Callable[[Bench], Peer]] = {
    CELERY_REDIS: _celery_redis,
    CELERY_POSTGRES: _celery_postgres,
    FLOWER: _flower,
    PROCRASTINATE: _procrastinate,
    DASK: _dask,
    RAY: _ray,
}
