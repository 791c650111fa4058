"""What can be read outside the API: the signs of executions, agents' outboxes, the server's database.

Read with sqlite3 and not through the project's models: a witness must not share a mistake with the accused.
"""

import contextlib
import json
import os
import sqlite3
import sys
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retire_cluster.torture import witness
from retire_cluster.torture.history import Capacity, Change, Execution, OnDisk, StoredAttempt, StoredTask

BUSY_S = 20.0  # to wait for a writer
_DEAD = ("Z", "X")  # states of a process that waits to be collected
_CRASH = "Traceback (most recent call last)"


def command(file: Path, nonce: str, seconds: float, code: int) -> list[str]:
    """The argv of a command task that leaves its signs in the file."""
    return [sys.executable, "-I", "-S", witness.__file__, str(file), nonce, str(seconds), str(code)]


def executions(file: Path) -> tuple[Execution, ...]:
    """The runs that left signs, in order of their start; a line a crash cut off counts as no sign."""
    signs: dict[tuple[str, int], list[tuple[float, str]]] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in file.read_text().splitlines():
            words = line.split()
            if len(words) == 4:
                signs.setdefault((words[0], int(words[1])), []).append((float(words[2]), words[3]))
    found = [_execution(attempt, pid, seen) for (attempt, pid), seen in signs.items()]
    return tuple(sorted(found, key=lambda item: item.started))


def _execution(attempt: str, pid: int, signs: list[tuple[float, str]]) -> Execution:
    ended = any(word == "end" for _, word in signs)
    return Execution(
        attempt=attempt,
        pid=pid,
        started=signs[0][0],
        last_sign=signs[-1][0],
        ended=ended,
        is_alive=not ended and is_alive(pid, witness.__file__),
    )


def is_alive(pid: int, word: str = "") -> bool:
    """Whether a process exists that is more than a corpse waiting to be collected.

    `word` is one of its command's: a number is soon another's where thousands of processes pass.
    """
    try:
        os.kill(pid, 0)
        if _state_and_group(pid)[0] in _DEAD:
            return False
        return word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except ProcessLookupError:
        return False
    except (PermissionError, FileNotFoundError):
        return not Path("/proc/self/stat").exists()


def group(number: int) -> list[int]:
    """The ids, in order, of the group's processes that are more than corpses; none where there is no /proc."""
    found = []
    for pid in sorted(int(entry.name) for entry in Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            state, of_group = _state_and_group(pid)
            if of_group == number and state not in _DEAD:
                found.append(pid)
    return found


def _state_and_group(pid: int) -> tuple[str, int]:
    # The name in front may hold blanks and brackets of its own.
    state, _, number = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    return state, int(number)


def errors(log: Path) -> list[str]:
    """The lines of a process's log that tell of a defect: a crash, or what it logged as an error itself."""
    with contextlib.suppress(FileNotFoundError):
        return [
            line
            for line in log.read_text(errors="replace").splitlines()
            if line.startswith(_CRASH) or _error(line)
        ]
    return []


def _error(line: str) -> bool:
    return '"level": "ERROR"' in line or '"level": "CRITICAL"' in line


# --- an agent's disk ----------------------------------------------------------------------------------------------


def outbox(device: str, data_dir: Path) -> tuple[OnDisk, ...]:
    """The results on the device's disk that nobody has acknowledged."""
    file = data_dir / "agent" / "outbox.sqlite3"
    if not file.exists():
        return ()
    with reading(file) as connection:
        rows = connection.execute("SELECT attempt, result FROM record WHERE mark = 'done'").fetchall()
    return tuple(
        OnDisk(device=device, attempt=attempt, outcome=str(json.loads(result)["outcome"]))
        for attempt, result in rows
    )


@contextlib.contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write."""
    with contextlib.closing(sqlite3.connect(file, timeout=BUSY_S)) as connection:
        connection.execute("PRAGMA query_only=ON")
        yield connection


# --- the server's database ----------------------------------------------------------------------------------------

_TASK = "SELECT id, status, round, finished_at, result_attempt FROM tasks_task"
_ATTEMPT = """SELECT id, no, round, device_id, state, outcome, offered_at, ended_at, confirmed, ran_s, result, late,
    slots, memory_mb FROM tasks_attempt WHERE task_id = ? ORDER BY no"""


# Triggers note every change in the transaction that makes it, so none is missed and all are in order.
_WITNESS = """
CREATE TABLE torture_change (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    row TEXT NOT NULL, old TEXT NOT NULL, new TEXT NOT NULL, round INTEGER NOT NULL
);
CREATE INDEX torture_change_row ON torture_change (row);
CREATE TRIGGER torture_task_new AFTER INSERT ON tasks_task BEGIN
    INSERT INTO torture_change (row, old, new, round) VALUES (new.id, '', new.status, new.round);
END;
CREATE TRIGGER torture_task AFTER UPDATE OF status, round, finished_at, result_attempt ON tasks_task
WHEN old.status <> new.status OR old.round <> new.round
    OR old.finished_at IS NOT new.finished_at OR old.result_attempt IS NOT new.result_attempt BEGIN
    INSERT INTO torture_change (row, old, new, round) VALUES (new.id, old.status, new.status, new.round);
END;
CREATE TRIGGER torture_attempt_new AFTER INSERT ON tasks_attempt BEGIN
    INSERT INTO torture_change (row, old, new, round) VALUES (new.id, '', new.state, new.round);
END;
CREATE TRIGGER torture_attempt AFTER UPDATE OF state ON tasks_attempt WHEN old.state <> new.state BEGIN
    INSERT INTO torture_change (row, old, new, round) VALUES (new.id, old.state, new.state, new.round);
END;
"""
ATTEMPT_FIELDS = (
    *("id", "no", "round", "device", "state", "outcome", "offered_at", "ended_at", "confirmed", "ran_s"),
    *("result", "late", "slots", "memory_mb"),
)


class Database:
    """The scratch server's SQLite file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def watch(self) -> None:
        """Have the database note every change of a status from now on."""
        with contextlib.closing(sqlite3.connect(self._file, timeout=BUSY_S)) as connection:
            connection.executescript(_WITNESS)

    def changes(self, ids: Collection[str]) -> tuple[Change, ...]:
        """The noted changes of these tasks and attempts, in order."""
        wanted = json.dumps(list(ids))
        with reading(self._file) as connection:
            found = connection.execute(
                "SELECT row, old, new, round FROM torture_change "
                "WHERE row IN (SELECT value FROM json_each(?)) ORDER BY seq",
                (wanted,),
            ).fetchall()
        return tuple(Change(id=row, old=old, new=new, round=number) for row, old, new, number in found)

    def tasks(self, nonce: str) -> list[StoredTask]:
        """Every task that was submitted with the nonce."""
        with reading(self._file) as connection:
            found = connection.execute(f"{_TASK} WHERE json_extract(metadata, '$.nonce') = ?", (nonce,))
            return [stored_task(row) for row in found.fetchall()]

    def attempts(self, task_id: str) -> tuple[StoredAttempt, ...]:
        with reading(self._file) as connection:
            return tuple(stored_attempt(row) for row in connection.execute(_ATTEMPT, (task_id,)).fetchall())

    def capacity(self, device: str) -> Capacity:
        """What the device may have reserved; memory as its agent's owner capped it."""
        with reading(self._file) as connection:
            slots, memory = connection.execute(
                "SELECT slots, allocatable_memory_mb FROM devices_device WHERE id = ?", (device,)
            ).fetchone()
        return Capacity(device=device, slots=slots, memory_mb=memory or 0)

    def integrity(self) -> str:
        """SQLite's own verdict on the file: `ok`, or what is wrong."""
        with reading(self._file) as connection:
            return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def stored_task(row: Sequence[Any]) -> StoredTask:
    """From the columns id, status, round, finished_at, result_attempt of either kind of database."""
    task_id, status, number, finished_at, result_attempt = row
    return StoredTask(
        id=plain_id(task_id),
        status=status,
        round=number,
        finished_at=_time(finished_at),
        result_attempt=plain_id(result_attempt),
    )


def stored_attempt(row: Sequence[Any]) -> StoredAttempt:
    """From the columns of ATTEMPT_FIELDS of either kind of database."""
    values = dict(zip(ATTEMPT_FIELDS, row, strict=True))
    values |= {"id": plain_id(values["id"]), "confirmed": bool(values["confirmed"])}
    values |= {"offered_at": _time(values["offered_at"]), "ended_at": _time(values["ended_at"])}
    return StoredAttempt(**values | {"result": values["result"] or ""})


def plain_id(value: object) -> str:
    """32 digits of an id as SQLite has it (those digits) or PostgreSQL (a UUID); empty for none."""
    return str(value or "").replace("-", "")


def _time(moment: str | datetime | None) -> float | None:
    """Seconds since the epoch; on SQLite Django stores UTC, without saying so."""
    if moment is None:
        return None
    if isinstance(moment, datetime):
        return moment.timestamp()
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
