"""Submits no-ops to Celery; results are in Redis."""

import os
import time

import redis
from bench_app import noop
from celery import group
from driver import serve, until

results = redis.Redis.from_url(f"{os.environ['BENCH_REDIS']}/1")
last = {}  # what the last batch has to be checked for


def latency(count: int) -> dict:
    times, faults = [], []
    for number in range(count):
        began = time.perf_counter()
        found = noop.delay(number).get(timeout=60)
        times.append(1000 * (time.perf_counter() - began))
        if found != number:
            faults.append(f"task {number} gave {found!r}")
    return {"times_ms": times, "faults": faults}


def batch(count: int) -> dict:
    before = results.dbsize()
    began = time.perf_counter()
    submitted = group(noop.s(number) for number in range(count)).apply_async()
    submit_s = time.perf_counter() - began
    until(lambda: results.dbsize() >= before + count, 0.02)  # one key a result: the cheapest way to see it
    total_s = time.perf_counter() - began
    last["submitted"] = submitted
    return {"submit_s": submit_s, "total_s": total_s}


def check() -> dict:
    submitted = last.pop("submitted")
    found = submitted.get(timeout=60)
    right = sum(one == number for number, one in enumerate(found))
    return {"ids": len({one.id for one in submitted.results}), "results": len(found), "right": right}


serve({"latency": latency, "batch": batch, "check": check})
