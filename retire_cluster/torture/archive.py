"""All of a scratch cluster's stored tasks at once, from either kind of database, and not through its models."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg

from retire_cluster.torture import evidence
from retire_cluster.torture.history import Capacity, Change, StoredAttempt, StoredTask

Rows = list[Sequence[Any]]

# Triggers note every change in the transaction that makes it. A sequence's numbers are not in the order of commits,
# but two changes that depend on each other are made under the same row's lock or after the other's commit.
_WITNESS = """
CREATE TABLE torture_change (
    seq bigserial PRIMARY KEY, "row" text NOT NULL, old text NOT NULL, new text NOT NULL, round integer NOT NULL
);
CREATE FUNCTION torture_task() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO torture_change ("row", old, new, round)
    VALUES (NEW.id, CASE WHEN TG_OP = 'INSERT' THEN '' ELSE OLD.status END, NEW.status, NEW.round);
    RETURN NULL;
END $$;
CREATE FUNCTION torture_attempt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO torture_change ("row", old, new, round)
    VALUES (NEW.id, CASE WHEN TG_OP = 'INSERT' THEN '' ELSE OLD.state END, NEW.state, NEW.round);
    RETURN NULL;
END $$;
CREATE TRIGGER torture_task_new AFTER INSERT ON tasks_task FOR EACH ROW EXECUTE FUNCTION torture_task();
CREATE TRIGGER torture_task AFTER UPDATE ON tasks_task FOR EACH ROW
    WHEN (ROW(OLD.status, OLD.round, OLD.finished_at, OLD.result_attempt)
        IS DISTINCT FROM ROW(NEW.status, NEW.round, NEW.finished_at, NEW.result_attempt))
    EXECUTE FUNCTION torture_task();
CREATE TRIGGER torture_attempt_new AFTER INSERT ON tasks_attempt FOR EACH ROW EXECUTE FUNCTION torture_attempt();
CREATE TRIGGER torture_attempt AFTER UPDATE ON tasks_attempt FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION torture_attempt();
"""
_TASKS = "SELECT id, status, round, finished_at, result_attempt, metadata FROM tasks_task"
_ATTEMPTS = """SELECT id, no, round, device_id, state, outcome, offered_at, ended_at, confirmed, ran_s, result,
    late, slots, memory_mb, task_id FROM tasks_attempt ORDER BY task_id, no"""
_CHANGES = 'SELECT "row", old, new, round FROM torture_change ORDER BY seq'
_CAPACITIES = "SELECT id, slots, allocatable_memory_mb FROM devices_device"
_UNFINISHED = "SELECT count(*) FROM tasks_task WHERE finished_at IS NULL"


class Archive:
    """Reads by one function from a statement to its rows."""

    def __init__(self, select: Callable[[str], Rows], watch: Callable[[], None]) -> None:
        self._select = select
        self.watch = watch
        """Have the database note every change of a status from now on."""

    def tasks(self) -> dict[str, list[StoredTask]]:
        """Every task, by the nonce it was submitted with."""
        found: defaultdict[str, list[StoredTask]] = defaultdict(list)
        for *row, metadata in self._select(_TASKS):
            content = json.loads(metadata) if isinstance(metadata, str) else metadata
            found[content.get("nonce", "")].append(evidence.stored_task(row))
        return found

    def attempts(self) -> dict[str, tuple[StoredAttempt, ...]]:
        """Every attempt in the order of their numbers, by its task's id."""
        found: defaultdict[str, tuple[StoredAttempt, ...]] = defaultdict(tuple)
        for *row, task_id in self._select(_ATTEMPTS):
            found[evidence.plain_id(task_id)] += (evidence.stored_attempt(row),)
        return found

    def changes(self) -> tuple[Change, ...]:
        """Everything the triggers noted, in order."""
        return tuple(
            Change(id=evidence.plain_id(row), old=old, new=new, round=number)
            for row, old, new, number in self._select(_CHANGES)
        )

    def capacities(self) -> tuple[Capacity, ...]:
        """What each device may have reserved; memory as its agent's owner capped it."""
        return tuple(
            Capacity(device=device, slots=slots, memory_mb=memory or 0)
            for device, slots, memory in self._select(_CAPACITIES)
        )

    def unfinished(self) -> int:
        """Tasks that are not over."""
        return int(self._select(_UNFINISHED)[0][0])


def of_sqlite(file: Path) -> Archive:
    """The scratch server's file."""

    def select(statement: str) -> Rows:
        with evidence.reading(file) as connection:
            return connection.execute(statement).fetchall()

    return Archive(select, evidence.Database(file).watch)


def of_postgres(url: str) -> Archive:
    """The scratch server's database."""

    def select(statement: str) -> Rows:
        with psycopg.connect(url) as connection:
            return list(connection.execute(statement.encode()).fetchall())

    def watch() -> None:
        with psycopg.connect(url) as connection:
            connection.execute(_WITNESS.encode())

    return Archive(select, watch)


def end_connections(url: str) -> int:
    """Have PostgreSQL end every other connection to the database; how many there were."""
    with psycopg.connect(url, autocommit=True) as connection:
        return len(
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()"
            ).fetchall()
        )
