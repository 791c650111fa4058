"""Counters that never fall: written in the transaction that counts, summed over shards when read.

What a retry opens anew or retention deletes stays counted. A shard is one process's, so that two gateways do not
wait for each other's rows; on SQLite there is one writer and one shard.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from django.db.models import Sum

from retire_cluster import bulk
from retire_cluster.db import is_postgresql, is_sqlite
from retire_cluster.protocol.states import Outcome
from tasks.models import Tally
from tasks.rules import AttemptRow, TaskRow

SHARDS = 64
ENDED, SUBMITTED, GIVEN_UP = "tasks_ended", "tasks_submitted", "attempts_given_up"
QUEUE_WAIT, EXECUTION, DISPATCH = "queue_wait_seconds", "execution_seconds", "dispatch_latency_seconds"
# Upper bounds in seconds, from a wake-up within a process to a day on a busy cluster.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 3600, 86_400)
WITHOUT_AN_END = (Outcome.LOST, Outcome.RETURNED)  # attempts whose task has to run again
INFINITE = "+Inf"
SUM = "sum"

Key = tuple[str, str]  # name, label

_UPSERT = """
    INSERT INTO tasks_tally (shard, name, label, value) {rows}
    ON CONFLICT (name, label, shard) DO UPDATE SET value = tasks_tally.value + excluded.value
"""


_ARRAYS = "SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::double precision[])"


def add(counts: Mapping[Key, float]) -> None:
    """Count. One statement; inside the transaction of what is counted."""
    if not counts:
        return
    shard = "0" if is_sqlite() else str(os.getpid() % SHARDS)
    # In one order everywhere: two processes that share a shard lock its rows the same way.
    rows = [(shard, name, label, float(value)) for (name, label), value in sorted(counts.items())]
    if is_postgresql():
        bulk.execute(_UPSERT.format(rows=_ARRAYS), [list(column) for column in zip(*rows, strict=True)])
    else:
        marks = ", ".join(["(%s, %s, %s, %s)"] * len(rows))
        bulk.execute(_UPSERT.format(rows=f"VALUES {marks}"), [value for row in rows for value in row])


def totals() -> dict[str, dict[str, float]]:
    """Every counter: value by label by name. One query."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for name, label, value in Tally.objects.values_list("name", "label").annotate(value=Sum("value")):
        found[name][label] = value
    return found


def of_ended(tasks: Iterable[TaskRow]) -> Counter[Key]:
    """What tasks that just ended add: their status, how long they waited and ran."""
    counts: Counter[Key] = Counter()
    for task in tasks:
        counts[(ENDED, task.status.value)] += 1
        if task.started_at is None:
            continue
        waited = max(0.0, (task.started_at - task.ready_at).total_seconds())
        counts.update(observed(QUEUE_WAIT, waited))
        if task.attempt_no == 1:  # later attempts wait for other reasons
            counts.update(observed(DISPATCH, waited))
        if task.execution_s is not None:
            counts.update(observed(EXECUTION, task.execution_s))
    return counts


def of_given_up(attempts: Iterable[AttemptRow]) -> Counter[Key]:
    """What attempts that just ended add: those that came to no end on their device."""
    return Counter(
        (GIVEN_UP, outcome.value) for row in attempts for outcome in WITHOUT_AN_END if row.outcome is outcome
    )


def observed(name: str, seconds: float) -> dict[Key, float]:
    """One observation of a histogram: its bucket and the sum. Buckets are not cumulative here."""
    bound = next((str(bound) for bound in BUCKETS if seconds <= bound), INFINITE)
    return {(name, bound): 1, (name, SUM): seconds}
