"""Runs Ray and submits no-ops to it; results are in its memory."""

import os
import time

import ray
from driver import serve

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=os.environ["BENCH_DIRECTORY"])
last = {}  # what the last batch has to be checked for


@ray.remote
def noop(number: int) -> int:
    return number


def latency(count: int) -> dict:
    times, faults = [], []
    for number in range(count):
        began = time.perf_counter()
        found = ray.get(noop.remote(number))
        times.append(1000 * (time.perf_counter() - began))
        if found != number:
            faults.append(f"task {number} gave {found!r}")
    return {"times_ms": times, "faults": faults}


def batch(count: int) -> dict:
    began = time.perf_counter()
    references = [noop.remote(number) for number in range(count)]
    submit_s = time.perf_counter() - began
    found = ray.get(references)
    total_s = time.perf_counter() - began
    last.update(ids=len(set(references)), results=found)
    return {"submit_s": submit_s, "total_s": total_s}


def check() -> dict:
    found = last.pop("results")
    return {"ids": last["ids"], "results": len(found), "right": sum(x == n for n, x in enumerate(found))}


serve({"latency": latency, "batch": batch, "check": check})
ray.shutdown()
