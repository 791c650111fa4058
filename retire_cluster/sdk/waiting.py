"""Waiting for the end of tasks: long polls, a deadline, and few calls, because calls are limited."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice

from retire_cluster.protocol.states import TERMINAL, TaskStatus
from retire_cluster.sdk.calls import Call, Calls, get, segment
from retire_cluster.sdk.errors import (
    DeadlinePassed,
    InvalidRequest,
    NotFound,
    ResultNotReady,
    SdkError,
    ValidationFailed,
)
from retire_cluster.sdk.listing import LARGEST_PAGE, Listing, Page
from retire_cluster.sdk.models import Result, Task, TaskResults
from retire_cluster.sdk.progress import counting

ONE_POLL_S = 50.0  # the server takes 60; proxies often end what is silent for 60 s
MANY_POLL_S = 5.0  # of one of many: the others end meanwhile
SHORTEST_POLL_S = 0.5  # a server that answers sooner is short of threads and does not wait
LAST_LOOK_S = 5.0  # after the deadline; a list of a hundred thousand would take longer than many a wait
RESULTS_AT_ONCE = 50  # the server takes 100; some proxies end a longer URL
FEW_TASKS = 10  # asking for each costs less than reading the list
# A look at many is two calls. Where calls are limited, so many of them last for ever: 60 a minute are the default.
LOOK_S, LIMITED_LOOK_S = 1.0, 2.0
OPEN = sorted(set(TaskStatus) - TERMINAL)


def until_ended(calls: Calls, task_id: str, timeout: float | None) -> Task:
    """The task once it is terminal. Raises DeadlinePassed."""
    until = _until(calls, timeout)
    while True:
        task = _poll(calls, task_id, until, ONE_POLL_S)
        if task.is_terminal:
            return task
        if calls.clock.now() >= until:
            raise _late(task, timeout)
        calls.spare(until - calls.clock.now())


def result(calls: Calls, task_id: str, timeout: float) -> Result:
    """How it ended, once it has: a call that waits. Raises DeadlinePassed; without a timeout ResultNotReady."""
    if timeout <= 0:
        return calls.answer(_asking(task_id, "result", 0.0)).to(Result)
    return _result(calls, task_id, _until(calls, timeout), timeout)


def results(calls: Calls, task_ids: Iterable[str], timeout: float | None) -> Iterator[Result]:
    """How they ended, in their order, each once there: few calls read what ended, and the next is waited for."""
    until = _until(calls, timeout)
    ahead = _Ahead(calls, until)
    ids = iter(task_ids)
    window: deque[str] = deque()
    while True:
        window.extend(islice(ids, RESULTS_AT_ONCE - len(window)))
        if not window:
            return
        found = ahead.take(window)
        task_id = window.popleft()
        if found is None:
            calls.spare()
            found = _result(calls, task_id, until, timeout)
        yield found


class _Ahead:
    """Results of tasks whose turn has not come, read together with that of the first."""

    def __init__(self, calls: Calls, until: float) -> None:
        self._calls = calls
        self._until = until
        self._there: dict[str, Result] = {}
        self._works = True
        self._next_at = -math.inf

    def take(self, window: Sequence[str]) -> Result | None:
        """That of the first of these tasks, if it is there."""
        unknown = [item for item in window if item not in self._there]
        if self._works and len(unknown) > 1 and unknown[0] == window[0]:
            self._look(unknown)
        return self._there.pop(window[0], None)

    def _look(self, task_ids: Sequence[str]) -> None:
        now = self._calls.clock.now
        if self._calls.calls_left is not None and len(task_ids) > FEW_TASKS:
            self._calls.clock.sleep(max(0.0, min(self._next_at, self._until) - now()))
        self._calls.spare()
        # As below: what ended in time is read though time is up.
        tries = max(self._until, now() + LAST_LOOK_S)
        call = get("/tasks/results", task_id=",".join(task_ids))
        try:
            found = self._calls.answer(call, until=tries, patient=True).to(TaskResults)
        except (ValidationFailed, NotFound):
            # One is no id, and asked for by itself it is named; or the server is an older one.
            self._works = False
            return
        self._there |= {result.task_id: result for result in found.results}
        # While some are open a look right after this one would find only a few more.
        self._next_at = now() + (LIMITED_LOOK_S if found.open else 0.0)


def _result(calls: Calls, task_id: str, until: float, timeout: float | None) -> Result:
    while True:
        began = calls.clock.now()
        seconds = min(ONE_POLL_S, max(0.0, until - began))
        # What ended in time is read though time is up, so the limit is only that of the wait.
        tries = max(until, began + LAST_LOOK_S)
        try:
            return calls.answer(_asking(task_id, "result", seconds), until=tries, patient=True).to(Result)
        except ResultNotReady:
            _rest(calls, began, seconds)
            calls.spare(until - calls.clock.now())
        if calls.clock.now() >= until:
            task = _status(calls, task_id, 0.0, calls.clock.now() + LAST_LOOK_S)
            if not task.is_terminal:
                raise _late(task, timeout)


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
    """Which tasks are open. Of many, a page of the list of all open ones tells; how they ended is read once.

    What is asked again and again is a page whose length the tasks that have ended do not add to.
    """

    def __init__(self, calls: Calls, wanted: Sequence[Task | str], until: float) -> None:
        self._calls = calls
        self._until = until
        self.ids = [item.task_id if isinstance(item, Task) else item for item in wanted]
        self.seen: dict[str, Task] = {}  # never what was given: it may have been retried since
        self.open = [*dict.fromkeys(self.ids)]
        self._has_asked_when = False
        self._created = {item.task_id: item.created_at for item in wanted if isinstance(item, Task)}

    def follow(self, done: Callable[[int], None]) -> None:
        """Until all have ended or time is up; `done` is told how many of the given ones have."""
        done(self._ended())
        while self.open and not self._is_late(self._until):
            if len(self.open) > FEW_TASKS:
                self._look_at_many(done)
            else:
                self._wait_for(self.open[0], ONE_POLL_S)
            done(self._ended())

    def look(self) -> None:
        """How the open ones stand now, though time is up: one call for each of few, else the list."""
        until = self._calls.clock.now() + LAST_LOOK_S
        try:
            if len(self.open) > FEW_TASKS:
                self._look_once(until)
            for task_id in self.open if len(self.open) <= FEW_TASKS else self.open[:1]:
                self._see(_status(self._calls, task_id, 0.0, until))
        except SdkError:
            # What was seen before is good enough to say that time is up.
            if self.seen.keys().isdisjoint(self.open):
                raise
        self._drop_ended()

    def _look_at_many(self, done: Callable[[int], None]) -> None:
        """Wait for a moment, and see whether more than a few are open."""
        next_at = self._calls.clock.now() + (LOOK_S if self._calls.calls_left is None else LIMITED_LOOK_S)
        self._learn_when()
        self._pause()
        page = self._listing(self._until, status=OPEN).page(1, LARGEST_PAGE)
        found, is_all = self._ours(page), not page.has_next
        if not found and not is_all:  # others' tasks of the same time hide ours
            found, is_all = self._still_open(self._until)
        if is_all and len(found) <= FEW_TASKS:
            self._read([task_id for task_id in self.open if task_id not in found], self._until)
            return
        most = len(found) if is_all else max(len(found), page.total_items or len(self.open))
        done(max(self._ended(), len(self.ids) - most))
        # The newest of those that are open: most likely it ends last.
        self._wait_for(next(iter(found), self.open[-1]), MANY_POLL_S)
        left = min(next_at, self._until) - self._calls.clock.now()
        if left > 0 and len(self.open) > FEW_TASKS:
            self._calls.clock.sleep(left)

    def _look_once(self, until: float) -> None:
        """Which are open: all of them, as far as the list can be read in time."""
        self._learn_when()
        found, is_all = self._still_open(until)
        if is_all and not found:
            self._read(self.open, until)
        elif is_all:
            self.open = [item for item in self.open if item in found or item not in self._created]

    def _still_open(self, until: float) -> tuple[dict[str, Task], bool]:
        """Those that are open, and whether these are all."""
        found: dict[str, Task] = {}
        for pages, page in enumerate(self._listing(until, status=OPEN).pages(LARGEST_PAGE), 1):
            found |= self._ours(page)
            if self._is_enough(pages, len(self.open)) and page.has_next:
                return found, False
            if page.has_next:
                self._pause(until)
            if page.has_next and self._is_late(until):
                return found, False
        return found, True

    def _read(self, task_ids: Sequence[str], until: float) -> None:
        """How each stands: a hundred a page; what the list does not have is asked for."""
        missing = dict.fromkeys(task_ids)
        for pages, page in enumerate(self._listing(until, task_ids).pages(LARGEST_PAGE), 1):
            for task_id in self._ours(page):
                missing.pop(task_id, None)
            if not missing or self._is_enough(pages, len(task_ids)):
                break
            self._pause(until)
            if self._is_late(until):
                break
        for task_id in missing:
            self._pause(until)
            if self._is_late(until):
                break
            self._see(_status(self._calls, task_id, 0.0, until))
        self._drop_ended()

    def _is_enough(self, pages: int, tasks: int) -> bool:
        """Whether the list costs too much: it may be full of others' tasks."""
        return pages * FEW_TASKS > tasks

    def _listing(self, until: float, task_ids: Sequence[str] = (), **more: object) -> Listing[Task]:
        """The list of the time in which the tasks, else the open ones, were created."""
        wanted = task_ids or self.open
        times = [self._created[item] for item in wanted if item in self._created]
        times = times if len(times) == len(wanted) else list(self._created.values())
        # The first bound includes its moment, the second does not.
        span = {"created_after": min(times), "created_before": max(times) + timedelta(microseconds=1)}
        return Listing(
            self._calls, "/tasks", Task, {**span, **more}, by_cursor=True, until=until, patient=True
        )

    def _learn_when(self) -> None:
        """Of ids alone nobody knows when they were created. The server's begin with the time: two tell of all."""
        if self._created.keys() >= set(self.open) or self._has_asked_when:
            return
        self._has_asked_when = True
        unknown = [item for item in self.open if item not in self._created]
        for task_id in {min(unknown): None, max(unknown): None}:
            self._pause()
            self._see(_status(self._calls, task_id, 0.0, self._until))

    def _ours(self, page: Page[Task]) -> dict[str, Task]:
        """Those of the page that are waited for, which are seen with that."""
        wanted = set(self.open)
        found = {task.task_id: task for task in page.items if task.task_id in wanted}
        for task in found.values():
            self._see(task)
        return found

    def _see(self, task: Task) -> None:
        self.seen[task.task_id] = task
        self._created[task.task_id] = task.created_at

    def _wait_for(self, task_id: str, longest: float) -> None:
        self._pause()
        self._see(_poll(self._calls, task_id, self._until, longest))
        self._drop_ended()

    def _pause(self, until: float | None = None) -> None:
        self._calls.spare((self._until if until is None else until) - self._calls.clock.now())

    def _is_late(self, until: float) -> bool:
        return self._calls.clock.now() >= until

    def _ended(self) -> int:
        still = set(self.open)
        return sum(task_id not in still for task_id in self.ids)

    def _drop_ended(self) -> None:
        self.open = [item for item in self.open if item not in self.seen or not self.seen[item].is_terminal]


def _poll(calls: Calls, task_id: str, until: float, longest: float) -> Task:
    """How the task stands: at its end, or after a while."""
    began = calls.clock.now()
    seconds = min(longest, max(0.0, until - began))
    task = _status(calls, task_id, seconds, until)
    if not task.is_terminal:
        _rest(calls, began, seconds)
    return task


def _rest(calls: Calls, began: float, seconds: float) -> None:
    """After a call that could have waited so long: some do not, and must not be asked without a pause."""
    rest = min(SHORTEST_POLL_S, seconds) - (calls.clock.now() - began)
    if rest > 0:
        calls.clock.sleep(rest)


def _status(calls: Calls, task_id: str, seconds: float, until: float) -> Task:
    return calls.answer(_asking(task_id, "status", seconds), until=until, patient=True).to(Task)


def _asking(task_id: str, what: str, seconds: float) -> Call:
    wait = f"{seconds:.3f}" if seconds else None
    return get(f"/tasks/{segment(task_id)}/{what}", wait_s=seconds, wait=wait)


def _late(task: Task, timeout: float | None) -> DeadlinePassed:
    return DeadlinePassed(f"task {task.task_id} is {task.status} after {timeout:g} s", task)


def _until(calls: Calls, timeout: float | None) -> float:
    if timeout is not None and math.isnan(timeout):
        raise InvalidRequest("timeout is no number")
    return math.inf if timeout is None else calls.clock.now() + timeout
