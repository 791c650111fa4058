"""Breaks promises in every process it is loaded into: python imports this file by itself from its path.

SABOTAGE names which, by commas. The torture has to notice; tests/chaos/test_sabotage.py says by which promise.
"""

import importlib.abc
import importlib.machinery
import itertools
import os
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

Patch = Callable[[Any], None]


def more_retries_than_allowed(rules: Any) -> None:
    """Another try after the last one."""
    finish = rules.finish

    def generous(task: Any, attempt: Any, report: Any, **rest: Any) -> Any:
        step = finish(task._replace(max_retries=task.max_retries + 1), attempt, report, **rest)
        return step._replace(task=step.task._replace(max_retries=task.max_retries))

    rules.finish = generous


def ends_can_be_reopened(rules: Any) -> None:
    """A result that comes late puts an ended task back to work."""
    finish = rules.finish

    def forgetful(task: Any, attempt: Any, report: Any, **rest: Any) -> Any:
        if attempt.outcome == "lost" and task.status == "success":
            task = task._replace(status=rules.TaskStatus.RUNNING)
            attempt = attempt._replace(state="running", outcome=None)
        return finish(task, attempt, report, **rest)

    rules.finish = forgetful


def keys_are_forgotten(idempotency: Any) -> None:
    """Each submission is a new one, whatever its key."""
    token = idempotency.token

    def another(*, key: str, **rest: Any) -> Any:
        return token(key=f"{key}-{uuid.uuid4()}", **rest)

    idempotency.token = another


def cancels_are_confirmed_unseen(ledger: Any) -> None:
    """The agent says that the work is over, and lets it go on."""
    cancel = ledger.Ledger.cancel

    def careless(self: Any, attempt: str, reason: Any = "user") -> Any:
        if attempt in self._running:
            return self._finish(ledger._unstarted(attempt, reason))
        return cancel(self, attempt, reason)

    ledger.Ledger.cancel = careless


def time_limits_are_ignored(executor: Any) -> None:
    """No deadline is looked at."""
    executor.Executor._look = lambda self, run: None


def capacity_is_ignored(planner: Any) -> None:
    """Everything fits everywhere."""
    planner.has_room = lambda profile, view: True


def at_most_once_does_not_wait(ledger: Any) -> None:
    """The agent starts at the offer what it should start at `go`."""
    assign = ledger.Ledger.assign

    def eager(self: Any, message: Any, **rest: Any) -> Any:
        return assign(self, replace(message, wait_for_go=False), **rest)

    ledger.Ledger.assign = eager


def answers_leave_before_the_commit(services: Any) -> None:
    """Every fourth submission is answered, and then its commit fails."""
    store, turns = services._store, itertools.count(1)

    def hasty(*arguments: Any) -> Any:
        from django.db import transaction

        with transaction.atomic():
            submitted = store(*arguments)
            transaction.set_rollback(next(turns) % 4 == 0)
        return submitted

    services._store = hasty


def ends_are_recorded_again(lifecycle: Any) -> None:
    """The end of a task is stored, and at once stored anew with another time."""
    flush = lifecycle.Ledger.flush

    def twice(self: Any) -> None:
        from datetime import timedelta

        from django.db.models import F

        flush(self)
        ended = lifecycle.Task.objects.filter(id__in=self.finished)
        ended.update(finished_at=F("finished_at") + timedelta(seconds=1))

    lifecycle.Ledger.flush = twice


SABOTAGE: dict[str, tuple[str, Patch]] = {
    "more_retries_than_allowed": ("tasks.rules", more_retries_than_allowed),
    "ends_can_be_reopened": ("tasks.rules", ends_can_be_reopened),
    "keys_are_forgotten": ("tasks.idempotency", keys_are_forgotten),
    "cancels_are_confirmed_unseen": ("retire_cluster.agent.ledger", cancels_are_confirmed_unseen),
    "time_limits_are_ignored": ("retire_cluster.agent.execution.executor", time_limits_are_ignored),
    "answers_leave_before_the_commit": ("tasks.services", answers_leave_before_the_commit),
    "ends_are_recorded_again": ("tasks.lifecycle", ends_are_recorded_again),
    "capacity_is_ignored": ("tasks.scheduling.planner", capacity_is_ignored),
    "at_most_once_does_not_wait": ("retire_cluster.agent.ledger", at_most_once_does_not_wait),
}


class _Loader(importlib.abc.Loader):
    """Loads a module as always, then spoils it."""

    def __init__(self, loader: importlib.abc.Loader, patch: Patch) -> None:
        self._loader = loader
        self._patch = patch

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._patch(module)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, patch: Patch) -> None:
        self._name = name
        self._patch = patch

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        others = sys.meta_path[sys.meta_path.index(self) + 1 :]  # another of us may be among them
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._patch)
        return spec


for wanted in filter(None, os.environ.get("SABOTAGE", "").split(",")):
    sys.meta_path.insert(0, _Finder(*SABOTAGE[wanted]))
