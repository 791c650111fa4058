"""Waiting for the end of tasks: long polls, a deadline, and few calls, because calls are limited."""

import math
from collections.abc import Callable, Sequence
from datetime import timedelta

from retire_cluster.sdk.calls import Calls, get, segment
from retire_cluster.sdk.errors import DeadlinePassed, InvalidRequest, SdkError
from retire_cluster.sdk.listing import LARGEST_PAGE, Listing
from retire_cluster.sdk.models import Task
from retire_cluster.sdk.progress import counting

ONE_POLL_S = 50.0  # the server takes 60; proxies often end what is silent for 60 s
MANY_POLL_S = 5.0  # of one of many: the others end meanwhile
SHORTEST_POLL_S = 0.5  # a server that answers sooner is short of threads and does not wait
LAST_LOOK_S = 5.0  # after the deadline; a list of a hundred thousand would take longer than many a wait
FEW_TASKS = 10  # asking for each costs less than reading the list


def until_ended(calls: Calls, task_id: str, timeout: float | None) -> Task:
    """The task once it is terminal. Raises DeadlinePassed."""
    until = _until(calls, timeout)
    while True:
        task = _poll(calls, task_id, until, ONE_POLL_S)
        if task.is_terminal:
            return task
        if calls.clock.now() >= until:
            raise DeadlinePassed(f"task {task_id} is {task.status} after {timeout:g} s", task)


def until_all_ended(
    calls: Calls, wanted: Sequence[Task | str], timeout: float | None, *, progress: bool
) -> list[Task]:
    """The tasks in their order, once all are terminal. Raises DeadlinePassed."""
    watch = _Watch(calls, wanted, _until(calls, timeout))
    with counting(len(watch.ids), show=progress) as done:
        watch.follow(done)
        watch.look()
    if watch.open:
        states = [watch.seen[task_id] for task_id in watch.open if task_id in watch.seen]
        message = f"{len(watch.open)} of {len(watch.ids)} tasks have not ended after {timeout:g} s"
        raise DeadlinePassed(message, states[0], states)
    return [watch.seen[task_id] for task_id in watch.ids]


class _Watch:
    """Which tasks are open. The list answers for a hundred at once; one of the open ones is waited for."""

    def __init__(self, calls: Calls, wanted: Sequence[Task | str], until: float) -> None:
        self._calls = calls
        self._until = until
        self._list_at = -math.inf
        self.ids = [item.task_id if isinstance(item, Task) else item for item in wanted]
        self.seen: dict[str, Task] = {}  # never what was given: it may have been retried since
        self.open = [*dict.fromkeys(self.ids)]
        self._created = {item.task_id: item.created_at for item in wanted if isinstance(item, Task)}

    def follow(self, done: Callable[[int], None]) -> None:
        """Until all have ended or time is up; `done` is told how many of the given ones have."""
        done(self._ended())
        while self.open and self._calls.clock.now() < self._until:
            if len(self.open) > FEW_TASKS and self._calls.clock.now() >= self._list_at:
                self._read_list(self._until)
            if self.open:
                self._calls.spare(self._until - self._calls.clock.now())
                self._wait_for_one()
            self._drop_ended()
            done(self._ended())

    def _wait_for_one(self) -> None:
        """The first of few; the last of many, because the list tells of those before it."""
        few = len(self.open) <= FEW_TASKS
        task_id = self.open[0 if few else -1]
        self.seen[task_id] = _poll(self._calls, task_id, self._until, ONE_POLL_S if few else MANY_POLL_S)

    def look(self) -> None:
        """How the open ones stand now, though time is up: one call for each of few, else the list."""
        until = self._calls.clock.now() + LAST_LOOK_S
        try:
            if len(self.open) > FEW_TASKS:
                self._read_list(until)
            for task_id in self.open if len(self.open) <= FEW_TASKS else self.open[:1]:
                self.seen[task_id] = _status(self._calls, task_id, 0.0, until)
        except SdkError:
            # What was seen before is good enough to say that time is up.
            if self.seen.keys().isdisjoint(self.open):
                raise
        self._drop_ended()

    def _ended(self) -> int:
        still = set(self.open)
        return sum(task_id not in still for task_id in self.ids)

    def _drop_ended(self) -> None:
        self.open = [item for item in self.open if item not in self.seen or not self.seen[item].is_terminal]

    def _read_list(self, until: float) -> None:
        """See how those stand whose time of creation is known; not more pages than asking one by one would cost."""
        known = [self._created[task_id] for task_id in self.open if task_id in self._created]
        if not known:
            return
        wanted = set(self.open)
        # The first bound includes its moment, the second does not.
        span = {"created_after": min(known), "created_before": max(known) + timedelta(microseconds=1)}
        listing = Listing(self._calls, "/tasks", Task, span, by_cursor=True, until=until, patient=True)
        pages = 0
        for page in listing.pages(LARGEST_PAGE):
            pages += 1
            found = {task.task_id: task for task in page.items if task.task_id in wanted}
            self.seen |= found
            wanted -= found.keys()
            if not wanted or pages * FEW_TASKS > len(self.open):
                break
            self._calls.spare(until - self._calls.clock.now())
            if self._calls.clock.now() >= until:
                break
        self._drop_ended()
        limited = self._calls.calls_left is not None
        self._list_at = self._calls.clock.now() + (2.0 * pages if limited else 1.0)


def _poll(calls: Calls, task_id: str, until: float, longest: float) -> Task:
    """How the task stands: at its end, or after a while."""
    began = calls.clock.now()
    seconds = min(longest, max(0.0, until - began))
    task = _status(calls, task_id, seconds, until)
    rest = min(SHORTEST_POLL_S, seconds) - (calls.clock.now() - began)
    if not task.is_terminal and rest > 0:
        calls.clock.sleep(rest)
    return task


def _status(calls: Calls, task_id: str, seconds: float, until: float) -> Task:
    where = f"/tasks/{segment(task_id)}/status"
    wait = f"{seconds:.3f}" if seconds else None
    return calls.answer(get(where, wait_s=seconds, wait=wait), until=until, patient=True).to(Task)


def _until(calls: Calls, timeout: float | None) -> float:
    if timeout is not None and math.isnan(timeout):
        raise InvalidRequest("timeout is no number")
    return math.inf if timeout is None else calls.clock.now() + timeout
