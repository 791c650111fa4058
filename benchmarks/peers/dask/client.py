"""Submits no-ops to Dask; results are in the workers' memory."""

import os
import time

from bench_work import noop
from distributed import Client, wait
from driver import serve

dask = Client(os.environ["BENCH_SCHEDULER"])
dask.wait_for_workers(2, timeout=60)
last = {}  # what the last batch has to be checked for


def latency(count: int) -> dict:
    times, faults = [], []
    for number in range(count):
        began = time.perf_counter()
        found = dask.submit(noop, number, pure=False).result()
        times.append(1000 * (time.perf_counter() - began))
        if found != number:
            faults.append(f"task {number} gave {found!r}")
    return {"times_ms": times, "faults": faults}


def batch(count: int) -> dict:
    began = time.perf_counter()
    futures = dask.map(noop, range(count), pure=False)
    submit_s = time.perf_counter() - began
    wait(futures)
    total_s = time.perf_counter() - began
    last["futures"] = futures
    return {"submit_s": submit_s, "total_s": total_s}


def check() -> dict:
    futures = last.pop("futures")
    found = dask.gather(futures)
    right = sum(one == number for number, one in enumerate(found))
    return {"ids": len({one.key for one in futures}), "results": len(found), "right": right}


serve({"latency": latency, "batch": batch, "check": check})
