"""Looks after the results of what was submitted through Flower; it submits nothing itself."""

import json
import os

import redis
from driver import serve

results = redis.Redis.from_url(f"{os.environ['BENCH_REDIS']}/1")


def stored() -> dict:
    return {"count": results.dbsize()}


def check(ids: dict[str, int]) -> dict:
    """How many of the tasks, number by id, have a result, and the right one."""
    rows = results.mget([f"celery-task-meta-{task_id}" for task_id in ids])
    found = [json.loads(row) if row else {} for row in rows]
    right = sum(
        row.get("status") == "SUCCESS" and row["result"] == number
        for row, number in zip(found, ids.values(), strict=True)
    )
    return {"ids": len(ids), "results": sum(map(bool, found)), "right": right}


serve({"stored": stored, "check": check})
