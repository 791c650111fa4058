"""Tasks: submit, look, wait, end."""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from retire_cluster.sdk import logs, waiting
from retire_cluster.sdk.calls import Call, Calls, get, read, segment
from retire_cluster.sdk.errors import InvalidRequest, SdkError, UnexpectedAnswer
from retire_cluster.sdk.listing import Listing
from retire_cluster.sdk.models import (
    Explanation,
    OutputChunk,
    Requirements,
    Result,
    Statistics,
    Submission,
    Task,
    TaskDetail,
    TaskLogs,
    TaskTypes,
)

MAX_BATCH = 1000  # tasks
MAX_BATCH_BYTES = 7 * 1024 * 1024  # the server takes 8 MiB, and may write numbers and texts longer than we do
Words = str | Sequence[str]


def id_of(task: Task | str) -> str:
    """The id of a task, given as itself or by its id."""
    return task.task_id if isinstance(task, Task) else str(task)


class TaskCalls:
    """The part of the client about tasks. A task is given as a `Task` or by its id."""

    _calls: Calls

    def submit(
        self,
        task_type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        priority: str | None = None,
        requirements: Requirements | Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Task:
        """Run something. However often it is sent on a bad network, one task runs.

        With an `idempotency_key` of your own that holds over several calls, for 24 hours.
        """
        wanted = Submission(task_type, payload or {}, priority, requirements, metadata)
        answer = self._calls.answer(submission("/tasks", wanted.to_json(), idempotency_key))
        return read(Task, answer.member("task"))

    def submit_many(
        self, submissions: Iterable[Submission | Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> list[Task]:
        """Run many, in batches of 1000; each batch is accepted as a whole or not at all.

        Of an error in a later batch, `submitted` has the tasks of the batches before.
        """
        bodies = [item.to_json() if isinstance(item, Submission) else dict(item) for item in submissions]
        prefix = idempotency_key or str(uuid.uuid4())
        tasks: list[Task] = []
        for number, batch in enumerate(batches(bodies), 1):
            try:
                answer = self._calls.answer(
                    submission("/tasks/batch", {"tasks": batch}, f"{prefix}-{number}")
                )
                made = answer.member("tasks")
                if not isinstance(made, list) or len(made) != len(batch):
                    raise UnexpectedAnswer("the answer does not hold one task for each submission")
                tasks += [read(Task, item) for item in made]
            except SdkError as error:
                error.submitted = tuple(tasks)
                raise
        return tasks

    def dry_run(
        self,
        task_type: str,
        payload: Mapping[str, Any] | None = None,
        *,
        requirements: Requirements | Mapping[str, Any] | None = None,
    ) -> Explanation:
        """Where such a task could run; nothing is submitted."""
        body = Submission(task_type, payload or {}, requirements=requirements).to_json()
        call = replace(submission("/tasks", body, None), params={"dry_run": True})
        return self._calls.answer(call).to(Explanation)

    def tasks(
        self,
        *,
        status: Words | None = None,
        task_type: Words | None = None,
        priority: Words | None = None,
        device_id: Words | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Listing[Task]:
        """All tasks, newest first. Several words of one filter: any of them."""
        params = {
            "status": status,
            "task_type": task_type,
            "priority": priority,
            "device_id": device_id,
            "created_after": created_after,
            "created_before": created_before,
        }
        return Listing(self._calls, "/tasks", Task, params, by_cursor=True)

    def task(self, task: Task | str) -> TaskDetail:
        """Everything about a task."""
        return self._calls.answer(get(_path(task))).to(TaskDetail)

    def status(self, task: Task | str) -> Task:
        """How it stands now."""
        return self._calls.answer(get(_path(task, "status"))).to(Task)

    def wait(self, task: Task | str, timeout: float | None = None) -> Task:
        """The task once it has ended, well or not; `result()` has its result.

        Raises DeadlinePassed after `timeout` seconds; None waits without end.
        """
        return waiting.until_ended(self._calls, id_of(task), timeout)

    def wait_all(
        self, tasks: Iterable[Task | str], timeout: float | None = None, *, progress: bool = True
    ) -> list[Task]:
        """The tasks in their order, once all have ended. On a terminal a bar shows how far they are.

        Raises DeadlinePassed after `timeout` seconds, with those that are `open`.
        """
        return waiting.until_all_ended(self._calls, list(tasks), timeout, progress=progress)

    def result(self, task: Task | str, timeout: float = 0.0) -> Result:
        """How it ended. Waits up to `timeout` seconds, then raises DeadlinePassed; 0: ResultNotReady."""
        return waiting.result(self._calls, id_of(task), timeout)

    def results(self, tasks: Iterable[Task | str], timeout: float | None = None) -> Iterator[Result]:
        """How they ended, in their order, each as soon as it is there, with few calls.

        Raises DeadlinePassed at the first that has not ended `timeout` seconds after the first was asked for.
        """
        return waiting.results(self._calls, map(id_of, tasks), timeout)

    def run(
        self, task_type: str, payload: Mapping[str, Any] | None = None, *, timeout: float = 300.0, **more: Any
    ) -> Result:
        """Submit, wait and return the result; `more` is as for submit(). Raises DeadlinePassed."""
        return self.result(self.submit(task_type, payload, **more), timeout)

    def cancel(self, task: Task | str) -> Task:
        """End it: a waiting task at once, a running one when its device confirms. Raises Conflict if it ended."""
        return self._calls.answer(Call("POST", _path(task, "cancel"))).to(Task)

    def retry(self, task: Task | str) -> Task:
        """Run it once more after failure, timeout or cancel. Raises Conflict from other states."""
        return self._calls.answer(Call("POST", _path(task, "retry"))).to(Task)

    def logs(self, task: Task | str, *, offset: int = 0, follow: bool = False) -> Iterator[OutputChunk]:
        """What it printed, from an offset on; with `follow` also what it prints from now on, until its end."""
        return logs.chunks(self._calls, id_of(task), offset, follow=follow)

    def logs_page(self, task: Task | str, *, offset: int = 0, limit: int = 100) -> TaskLogs:
        """A part of what it printed, and where to go on."""
        return logs.page(self._calls, id_of(task), offset, limit)

    def explain(self, task: Task | str) -> Explanation:
        """Every device with each check passed or failed, the nearest first."""
        return self._calls.answer(get(_path(task, "explain"))).to(Explanation)

    def statistics(self) -> Statistics:
        """Counts of all tasks, how those of the last hour went, and the load now."""
        return self._calls.answer(get("/tasks/statistics")).to(Statistics)

    def types(self) -> TaskTypes:
        """The task types that online devices offer."""
        return self._calls.answer(get("/tasks/types")).to(TaskTypes)


def submission(path: str, body: Mapping[str, Any], idempotency_key: str | None) -> Call:
    """The call that submits; with its key, sending it again finds the tasks that were made."""
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    return Call("POST", path, body=body, headers=headers, repeatable=True)


def batches(bodies: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """The submissions in order, split to what the server takes in one call."""
    batch: list[Mapping[str, Any]] = []
    size = 0
    for number, body in enumerate(bodies):
        try:
            bytes_more = len(json.dumps(body, ensure_ascii=False).encode())
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"submission {number} cannot be sent: {error}") from error
        if batch and (len(batch) == MAX_BATCH or size + bytes_more > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += bytes_more
    if batch:
        yield batch


def _path(task: Task | str, what: str = "") -> str:
    place = f"/tasks/{segment(id_of(task))}"
    return f"{place}/{what}" if what else place
