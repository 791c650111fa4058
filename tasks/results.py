"""How tasks ended: the attempt that decided, and many of them in one answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from retire_cluster import bulk
from retire_cluster.protocol.states import TERMINAL
from tasks.models import Attempt, Task

MAX_CHARACTERS = 4 * 1024 * 1024  # of one answer's results; the first is in it however large it is

# Of the texts a result is shown with: what they take is known before any is read.
_SIZE = (
    "(SELECT COALESCE(LENGTH(result), 0) + LENGTH(error_message) + LENGTH(error_traceback)"
    " FROM tasks_attempt WHERE tasks_attempt.id = tasks_task.result_attempt)"
)


@dataclass(frozen=True, slots=True)
class Results:
    """What is to say of some tasks, each list in the order they were named in."""

    ended: list[tuple[Task, Attempt | None]]
    open: list[UUID]
    left_out: list[UUID]  # ended, and too much for one answer
    unknown: list[UUID]


def deciding(tasks: Sequence[Task]) -> dict[UUID, Attempt]:
    """The attempts that decided how the tasks ended, by task. Without one: open, or ended before it ran."""
    wanted = [task.result_attempt for task in tasks if task.result_attempt is not None]
    return {attempt.task_id: attempt for attempt in bulk.fetch(Attempt, {"id": wanted})}


def read(task_ids: Sequence[UUID]) -> Results:
    """How these tasks ended; three statements, however many they are."""
    wanted = list(dict.fromkeys(task_ids))
    found = bulk.select_rows(Task, ("id", "status"), {"id": wanted}, more=(_SIZE,))
    known = {task_id for task_id, *_ in found}
    sizes = {task_id: size or 0 for task_id, status, size in found if status in TERMINAL}
    fitting = _fitting([task_id for task_id in wanted if task_id in sizes], sizes)
    left_out = sizes.keys() - set(fitting)
    # One that was retried meanwhile is open again.
    ended = {task.pk: task for task in bulk.fetch(Task, {"id": fitting}) if task.status in TERMINAL}
    attempts = deciding(list(ended.values()))
    return Results(
        ended=[(ended[item], attempts.get(item)) for item in wanted if item in ended],
        open=[item for item in wanted if item in known and item not in ended and item not in left_out],
        left_out=[item for item in wanted if item in left_out],
        unknown=[item for item in wanted if item not in known],
    )


def _fitting(task_ids: Sequence[UUID], sizes: dict[UUID, int]) -> list[UUID]:
    """The first of them, as many as one answer may hold."""
    total = 0
    for number, task_id in enumerate(task_ids):
        total += sizes[task_id]
        if number and total > MAX_CHARACTERS:
            return list(task_ids[:number])
    return list(task_ids)
