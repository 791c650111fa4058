"""Submits no-ops to Celery; results are rows in PostgreSQL."""

import time

import django
from bench_app import noop
from celery import group
from driver import serve, until

django.setup()

from django.core.management import call_command  # noqa: E402 after setup
from django_celery_results.models import TaskResult  # noqa: E402

POLL_S = 0.002  # the default is 0.5 s
last = {}  # what the last batch has to be checked for


def prepare() -> dict:
    call_command("migrate", verbosity=0)
    return {}


def latency(count: int) -> dict:
    times, faults = [], []
    for number in range(count):
        began = time.perf_counter()
        found = noop.delay(number).get(timeout=60, interval=POLL_S)
        times.append(1000 * (time.perf_counter() - began))
        if found != number:
            faults.append(f"task {number} gave {found!r}")
    return {"times_ms": times, "faults": faults}


def batch(count: int) -> dict:
    before = TaskResult.objects.filter(status="SUCCESS").count()
    began = time.perf_counter()
    submitted = group(noop.s(number) for number in range(count)).apply_async()
    submit_s = time.perf_counter() - began
    until(lambda: TaskResult.objects.filter(status="SUCCESS").count() >= before + count, 0.05)
    total_s = time.perf_counter() - began
    last["ids"] = {one.id: number for number, one in enumerate(submitted.results)}
    return {"submit_s": submit_s, "total_s": total_s}


def check() -> dict:
    ids = last.pop("ids")
    rows = TaskResult.objects.filter(task_id__in=ids, status="SUCCESS").values_list("task_id", "result")
    right = {task_id for task_id, result in rows if result == str(ids[task_id])}
    return {"ids": len(ids), "results": len(rows), "right": len(right)}


serve({"prepare": prepare, "latency": latency, "batch": batch, "check": check})
