"""Many tasks are split to what the server takes, in order, with none lost and none twice."""

import json
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retire_cluster.sdk import SdkError, Submission
from retire_cluster.sdk.tasks import MAX_BATCH, MAX_BATCH_BYTES, batches
from tests.unit.sdk.network import client, failure, success, task_row

BATCH_LIMIT = 8 * 1024 * 1024  # bytes, of the server


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 2500))
def test_batches_hold_everything_in_order(sizes: list[int], more: int) -> None:
    bodies: list[dict[str, Any]] = [
        {"n": number, "text": "x" * (size * 2**20)} for number, size in enumerate(sizes)
    ]
    bodies += [{"n": len(sizes) + number} for number in range(more)]
    found = list(batches(bodies))
    assert [body for batch in found for body in batch] == bodies
    assert all(1 <= len(batch) <= MAX_BATCH for batch in found)
    for batch, following in pairwise(found):
        assert len(batch) == MAX_BATCH or size_of([*batch, following[0]]) > MAX_BATCH_BYTES


def size_of(batch: list[Any]) -> int:
    return sum(len(json.dumps(body, ensure_ascii=False).encode()) for body in batch)


def test_a_request_is_never_larger_than_the_server_takes() -> None:
    payload = {"text": "ü" * 100_000}
    sizes: list[int] = []

    def answering(request: httpx.Request) -> httpx.Response:
        sizes.append(len(request.content))
        tasks = [task_row() for _ in json.loads(request.content)["tasks"]]
        return success({"tasks": tasks, "count": len(tasks)}, 201)

    tasks = client(answering).submit_many(Submission("echo", payload) for _ in range(100))
    assert len(tasks) == 100
    assert len(sizes) == 3
    assert max(sizes) < BATCH_LIMIT


def test_an_error_tells_what_was_accepted_before() -> None:
    keys: list[str] = []

    def answering(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 2:
            return failure(400, "VALIDATION_ERROR", field="tasks[3].payload", reason="bad")
        amount = len(json.loads(request.content)["tasks"])
        return success({"tasks": [task_row(f"t{n}") for n in range(amount)], "count": amount}, 201)

    with pytest.raises(SdkError) as caught:
        client(answering).submit_many([Submission("echo")] * 1500, idempotency_key="mine")
    assert [task.task_id for task in caught.value.submitted] == [f"t{n}" for n in range(1000)]
    assert keys == ["mine-1", "mine-2"]


def test_nothing_to_submit_asks_for_nothing() -> None:
    assert client(lambda request: failure(500, "INTERNAL_ERROR")).submit_many([]) == []
