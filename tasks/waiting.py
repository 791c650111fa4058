"""Waiting for a task to end: the committer names finished tasks within its process, the net finds others."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from retire_cluster.protocol.states import TERMINAL
from retire_cluster.waiters import Waiter, Waiters
from tasks.models import Task


def _find_ended(task_ids: Sequence[UUID]) -> Iterable[UUID]:
    return Task.objects.filter(id__in=task_ids, status__in=TERMINAL).values_list("id", flat=True)


_waiters = Waiters("waiters", _find_ended)


def register(task_id: UUID) -> Waiter:
    """A waiter for the task; use it as a context manager."""
    return _waiters.register(task_id)


def ended(task_ids: Iterable[UUID]) -> None:
    """Tell whoever waits for these tasks, from any thread."""
    _waiters.ended(task_ids)


def waiting_for() -> list[UUID]:
    """The tasks somebody in this process waits for."""
    return _waiters.waited_for()


def callers(task_id: UUID) -> int:
    """How many wait for the task in this process."""
    return _waiters.callers(task_id)
