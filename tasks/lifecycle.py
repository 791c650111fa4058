"""The only writer of a task's or attempt's status: loads rows, lets rules.py decide, stores what changed.

A Ledger lives inside one write transaction. On Postgres it locks what it loads (tasks by id, then attempts);
on SQLite the transaction itself is the lock. Every stored change is conditional on the row as it was read, so a
writer that got past the locks is caught, the transaction rolled back and the work done again.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db.models import Model

from retire_cluster.bulk import (
    Hits,
    Lock,
    insert_rows,
    joined,
    select_rows,
    select_where,
    together,
    update_rows,
)
from retire_cluster.protocol.states import AttemptState, DeviceLossPolicy, Outcome, TaskStatus
from tasks import tales, tallies
from tasks.models import Attempt, Task
from tasks.rules import AttemptRow, Step, TaskRow

# Worded as in the condition of the live attempts' indexes: SQLite uses a partial index only then.
LIVE_ATTEMPT = "NOT (state = 'ended')"
# By name: SQLite would walk over all that a device ever did.
LIVE_INDEX = "attempt_live_by_device"

_TASK_COLUMNS = TaskRow._fields
_ATTEMPT_COLUMNS = AttemptRow._fields
_OUTCOME = _ATTEMPT_COLUMNS.index("outcome")


class LostRace(RuntimeError):
    """A row changed under a lock's nose; nothing was stored, do the work again."""


class Ledger:
    """The rows one transaction works on, by id; `flush` stores what changed."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self._tasks: dict[UUID, TaskRow] = {}
        self._attempts: dict[UUID, AttemptRow] = {}
        self._read_tasks: dict[UUID, TaskRow] = {}
        self._read_attempts: dict[UUID, AttemptRow] = {}
        self._by_device: dict[str, set[UUID]] = defaultdict(set)
        self.stored: dict[UUID, AttemptRow] = {}  # attempts as flushed
        self.stored_tasks: dict[UUID, TaskRow] = {}
        self.finished: list[UUID] = []  # tasks that a flush made terminal

    # --- load -------------------------------------------------------------------------------------------------

    def load_attempts(self, ids: Iterable[UUID], *, lock: Lock = "wait") -> None:
        """Load attempts and their tasks; ids that do not exist are simply not there afterwards.

        Nor are, with `skip`, those that another transaction holds.
        """
        missing = [attempt_id for attempt_id in set(ids) if attempt_id not in self._attempts]
        self._load({"id": missing}, lock=lock)

    def load_live_of(self, device_ids: Iterable[str]) -> None:
        """Load every live attempt of the devices."""
        self._load({"device_id": list(set(device_ids))}, also=LIVE_ATTEMPT, index=LIVE_INDEX)

    def load_tasks(self, ids: Iterable[UUID]) -> list[TaskRow]:
        """Load and lock tasks, by id; rows another transaction holds are left out."""
        found = select_rows(Task, _TASK_COLUMNS, {"id": list(ids)}, lock="skip")
        return [self._keep_task(_task_row(values)) for values in found]

    def load_where(
        self, condition: str, values: Sequence[Any], more: tuple[str, ...]
    ) -> list[tuple[TaskRow, tuple[Any, ...]]]:
        """Load and lock the tasks for which a condition in constant SQL holds, with more columns of theirs.

        Rows another transaction holds are left out.
        """
        width = len(_TASK_COLUMNS)
        found = select_where(Task, _TASK_COLUMNS, condition, values, more=more, lock="skip")
        return [(self._keep_task(_task_row(row[:width])), row[width:]) for row in found]

    def know(self, task: TaskRow, attempt: AttemptRow) -> None:
        """Take rows from memory, as this process stored them last. A flush that meets others is a LostRace."""
        self._keep_task(task)
        self._keep_attempt(attempt)

    def lock_task(self, task_id: UUID) -> TaskRow:
        """Load and lock one task, waiting for whoever holds it. Raises Task.DoesNotExist."""
        found = select_rows(Task, _TASK_COLUMNS, {"id": [task_id]}, lock="wait")
        if not found:
            raise Task.DoesNotExist(f"there is no task {task_id}")
        return self._keep_task(_task_row(found[0]))

    def _load(
        self,
        among: Mapping[str, Sequence[Any]],
        *,
        also: str = "",
        lock: Lock = "wait",
        index: str = "",
    ) -> None:
        # Which tasks first, then the tasks in id order, then the attempts: one lock order everywhere.
        task_ids = {row[0] for row in select_rows(Attempt, ("task_id",), among, also=also, index=index)}
        wanted = list(task_ids - self._tasks.keys())
        for values in select_rows(Task, _TASK_COLUMNS, {"id": wanted}, lock=lock):
            self._keep_task(_task_row(values))
        if not task_ids:
            return
        for values in select_rows(Attempt, _ATTEMPT_COLUMNS, among, also=also, lock=lock, index=index):
            row = _attempt_row(values)
            if row.task_id in self._tasks:
                self._keep_attempt(row)

    def _keep_task(self, row: TaskRow) -> TaskRow:
        self._read_tasks.setdefault(row.id, row)
        return self._tasks.setdefault(row.id, row)

    def _keep_attempt(self, row: AttemptRow) -> None:
        self._read_attempts.setdefault(row.id, row)
        self._by_device[row.device_id].add(row.id)
        self._attempts.setdefault(row.id, row)

    # --- look and change --------------------------------------------------------------------------------------

    def pair(self, attempt_id: UUID) -> tuple[TaskRow, AttemptRow] | None:
        """An attempt with its task, as changed so far."""
        attempt = self._attempts.get(attempt_id)
        return None if attempt is None else (self._tasks[attempt.task_id], attempt)

    def task(self, task_id: UUID) -> TaskRow | None:
        return self._tasks.get(task_id)

    def pairs_of(self, device_id: str, also: Iterable[UUID] = ()) -> dict[UUID, tuple[TaskRow, AttemptRow]]:
        """The device's loaded live attempts, and those named that are loaded."""
        wanted = {item for item in self._by_device[device_id] if self._attempts[item].live}
        wanted.update(attempt_id for attempt_id in also if attempt_id in self._attempts)
        return {
            attempt_id: (self._tasks[self._attempts[attempt_id].task_id], self._attempts[attempt_id])
            for attempt_id in wanted
        }

    def put(self, step: Step) -> None:
        """Take over what a rule decided."""
        self._tasks[step.task.id] = step.task
        self._attempts[step.attempt.id] = step.attempt
        self._by_device[step.attempt.device_id].add(step.attempt.id)

    def put_task(self, row: TaskRow) -> None:
        self._tasks[row.id] = row

    def changed_tasks(self) -> list[TaskRow]:
        return [row for row in self._tasks.values() if row is not self._read_tasks[row.id]]

    def changed_attempts(self) -> list[AttemptRow]:
        return [row for row in self._attempts.values() if row is not self._read_attempts.get(row.id)]

    # --- store ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Store what changed. Raises LostRace when a row is not what it was."""
        tasks, changed = self.changed_tasks(), self.changed_attempts()
        known = [row for row in changed if row.id in self._read_attempts]
        new = [row for row in changed if row.id not in self._read_attempts]
        ended = [
            row for row in tasks if row.status.is_terminal and not self._read_tasks[row.id].status.is_terminal
        ]
        given_up = [row for row in known if not row.live and self._read_attempts[row.id].live]
        with together():
            # Tasks before attempts, as everybody locks; of those the ended ones first: the database allows one live
            # attempt per task at every moment.
            written = [
                self._task_changes(tasks),
                self._attempt_changes([row for row in known if not row.live]),
                self._attempt_changes([row for row in known if row.live]),
            ]
            for changes in written:
                changes.store()
            insert_rows(Attempt, _ATTEMPT_COLUMNS, [_stored(row) for row in new])
            tallies.add(tallies.of_ended(ended) + tallies.of_given_up(given_up))
        for changes in written:
            changes.check()
        self.finished += [row.id for row in ended]
        tales.of_changed((self._read_tasks[row.id], row) for row in tasks)
        self.stored.update((row.id, row) for row in changed)
        self.stored_tasks.update((row.id, row) for row in tasks)
        self._read_tasks.update(self._tasks)
        self._read_attempts.update(self._attempts)

    def _task_changes(self, rows: list[TaskRow]) -> "_Changes":
        changes = _Changes(Task, _TASK_COLUMNS, ("id", "version"))
        for row in rows:
            read = self._read_tasks[row.id]
            changes.add(read, row, (row.id, read.version))
        return changes

    def _attempt_changes(self, rows: list[AttemptRow]) -> "_Changes":
        changes = _Changes(Attempt, _ATTEMPT_COLUMNS, ("id", "state", "session"))
        for row in rows:
            read = self._read_attempts[row.id]
            changes.add(_stored(read), _stored(row), (row.id, read.state, read.session))
        return changes


_Update = tuple[Sequence[Any], Sequence[Any]]  # the new values, and what must be so before


class _Changes:
    """Conditional updates of one table. Only columns that change are written: an index of others stays as it is."""

    def __init__(self, model: type[Model], columns: tuple[str, ...], guarded: tuple[str, ...]) -> None:
        self._model, self._columns, self._guarded = model, columns, guarded
        self._alike: dict[tuple[int, ...], list[_Update]] = defaultdict(list)
        self._hits: list[tuple[Hits, list[_Update]]] = []

    def add(self, old: Sequence[Any], new: Sequence[Any], guards: Sequence[Any]) -> None:
        """One row: the values it had and has, and what it must still be."""
        places = tuple(
            place
            for place, (before, after) in enumerate(zip(old, new, strict=True))
            if before is not after and before != after
        )
        self._alike[places].append(([new[place] for place in places], guards))

    def store(self) -> None:
        """One statement for all rows that change in the same columns."""
        for places, rows in self._alike.items():
            if places:
                names = [self._columns[place] for place in places]
                self._hits.append((update_rows(self._model, names, self._guarded, rows), rows))

    def check(self) -> None:
        """Raises LostRace unless every row was as expected."""
        for hits, rows in self._hits:
            if hits.count != len(rows):
                missing = len(rows) - hits.count
                raise LostRace(
                    f"{missing} of {len(rows)} rows changed meanwhile: {[old for _, old in rows[:3]]}"
                )


def enqueue(tasks: Sequence[Task]) -> None:
    """Store new tasks as queued; the one way a task comes into being. Inside a write transaction or `one_write`."""
    for task in tasks:
        task.status = TaskStatus.QUEUED
    columns, values = _every_column()
    with joined():
        insert_rows(Task, columns, list(map(values, tasks)))
        tallies.add({(tallies.SUBMITTED, ""): len(tasks)})
    tales.of_submitted(tasks)


@cache
def _every_column() -> tuple[tuple[str, ...], Callable[[Task], tuple[Any, ...]]]:
    """A task's columns, and what takes their values from one."""
    columns = tuple(field.attname for field in Task._meta.concrete_fields)
    return columns, attrgetter(*columns)


def _task_row(values: Sequence[Any]) -> TaskRow:
    row = TaskRow._make(values)
    return row._replace(status=TaskStatus(row.status), on_device_loss=DeviceLossPolicy(row.on_device_loss))


def _attempt_row(values: Sequence[Any]) -> AttemptRow:
    row = AttemptRow._make(values)
    return row._replace(state=AttemptState(row.state), outcome=Outcome(row.outcome) if row.outcome else None)


def _stored(row: AttemptRow) -> tuple[Any, ...]:
    """An attempt's values as the table has them: no outcome is the empty text there."""
    return row if row.outcome is not None else (*row[:_OUTCOME], "", *row[_OUTCOME + 1 :])
