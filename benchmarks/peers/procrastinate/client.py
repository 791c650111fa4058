"""Defers no-ops to procrastinate, which keeps no results: a job that succeeded counts as one."""

import os
import time

import psycopg
from bench_app import app, noop
from driver import serve, until
from procrastinate import SyncPsycopgConnector

POLL_S = 0.002
BATCH = 1000
last = {}  # what the last batch has to be checked for
url = os.environ["BENCH_POSTGRES"]
jobs = psycopg.connect(url, autocommit=True)


def prepare() -> dict:
    with app.replace_connector(SyncPsycopgConnector(conninfo=url)) as connected, connected.open():
        connected.schema_manager.apply_schema()
    return {}


def latency(count: int) -> dict:
    times, faults = [], []
    with app.replace_connector(SyncPsycopgConnector(conninfo=url)) as connected, connected.open():
        for number in range(count):
            began = time.perf_counter()
            job = noop.defer(number=number)
            while (status := _status(job)) in ("todo", "doing"):
                time.sleep(POLL_S)
            times.append(1000 * (time.perf_counter() - began))
            if status != "succeeded":
                faults.append(f"task {number} is {status}")
    return {"times_ms": times, "faults": faults}


def _status(job: int) -> str:
    return jobs.execute("SELECT status FROM procrastinate_jobs WHERE id = %s", (job,)).fetchone()[0]


def batch(count: int) -> dict:
    with app.replace_connector(SyncPsycopgConnector(conninfo=url)) as connected, connected.open():
        began = time.perf_counter()
        ids: dict[int, int] = {}
        for start in range(0, count, BATCH):
            numbers = range(start, min(count, start + BATCH))
            ids.update(zip(noop.batch_defer(*({"number": one} for one in numbers)), numbers, strict=True))
        submit_s = time.perf_counter() - began
    first = min(ids)
    done = "SELECT count(*) FROM procrastinate_jobs WHERE id >= %s AND status = 'succeeded'"
    until(lambda: jobs.execute(done, (first,)).fetchone()[0] >= count, 0.05)
    total_s = time.perf_counter() - began
    last["ids"] = ids
    return {"submit_s": submit_s, "total_s": total_s}


def check() -> dict:
    ids = last.pop("ids")
    rows = jobs.execute(
        "SELECT id, attempts, (args->>'number')::int FROM procrastinate_jobs WHERE id >= %s", (min(ids),)
    ).fetchall()
    right = sum(attempts == 1 and ids.get(job) == number for job, attempts, number in rows)
    return {"ids": len(ids), "results": len(rows), "right": right}


serve({"prepare": prepare, "latency": latency, "batch": batch, "check": check})
