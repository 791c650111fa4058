"""The ledger's records on disk: SQLite in WAL mode, one transaction a batch, plus the directory's lock.

A commit reaches the operating system (survives kill -9); sync() reaches the medium (survives a power cut).
"""

import contextlib
import logging
import os
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path

from retire_cluster.agent.errors import AgentExit, ExitCode
from retire_cluster.agent.ledger import Drop, Forget, Mark, Persist, Record, Reject
from retire_cluster.protocol import jsontext, schema
from retire_cluster.protocol.messages import Result

MAX_REJECTED = 100
MAX_LOG_BYTES = 1024 * 1024  # a write-ahead log beyond this is folded into the database
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS record "
    "(attempt TEXT PRIMARY KEY, mark TEXT NOT NULL, result TEXT) WITHOUT ROWID"
)
_WRITE = "INSERT OR REPLACE INTO record (attempt, mark, result) VALUES (?, ?, ?)"

logger = logging.getLogger(__name__)
Write = Persist | Drop | Forget | Reject


class OutboxError(Exception):
    """The disk takes no more; the message says why."""


class Outbox:
    """The durable records in `directory`. One process at a time."""

    def __init__(self, directory: Path) -> None:
        """Open or create. Raises AgentExit where the directory cannot be used or is in use."""
        self._directory = directory
        self._file = directory / "outbox.sqlite3"
        prepare_directory(directory)
        self._lock = _lock(directory)
        try:
            self._connection = _open_or_set_aside(self._file)
        except (OSError, sqlite3.Error) as error:
            os.close(self._lock)
            raise _unusable(directory, error) from None

    def close(self) -> None:
        self._connection.close()
        os.close(self._lock)

    def records(self) -> list[Record]:
        """Everything stored. A row that cannot be read is left out with a log line."""
        rows = self._connection.execute("SELECT attempt, mark, result FROM record").fetchall()
        return [record for row in rows if (record := _read(*row)) is not None]

    def apply(self, writes: Iterable[Write]) -> None:
        """Carry out the writes in one transaction. Raises OutboxError, and then none of them counts."""
        try:
            with self._connection:
                for write in writes:
                    self._write(write)
        except (sqlite3.Error, OSError) as error:
            raise OutboxError(f"cannot write to {self._file}: {error}") from None

    def _write(self, write: Write) -> None:
        execute = self._connection.execute
        if isinstance(write, Persist):
            execute(_WRITE, (write.record.attempt, write.record.mark, _text(write.record.result)))
        elif isinstance(write, Drop):
            execute(_WRITE, (write.attempt, Mark.OVER, None))
        elif isinstance(write, Forget):
            self._connection.executemany(
                "DELETE FROM record WHERE attempt = ?", [(attempt,) for attempt in write.attempts]
            )
        else:
            keep_rejected(self._directory / "rejected", write.record)

    def needs_sync(self) -> bool:
        """Whether the write-ahead log has grown so far that it should be folded in."""
        with contextlib.suppress(OSError):
            return os.stat(f"{self._file}-wal").st_size > MAX_LOG_BYTES
        return False

    def sync(self) -> None:
        """Force all commits to the medium. Slow: for a thread of its own, on a connection of its own."""
        try:
            with contextlib.closing(sqlite3.connect(self._file, timeout=5)) as connection:
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            raise OutboxError(f"cannot sync {self._file}: {error}") from None


def prepare_directory(directory: Path) -> None:
    """Create the directory, private to its owner. Raises AgentExit."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)
    except OSError as error:
        raise _unusable(directory, error) from None


def _unusable(directory: Path, error: Exception) -> AgentExit:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return AgentExit(
        ExitCode.USAGE, f"cannot use the data directory {directory}: {reason}; choose another with --data-dir"
    )


def _lock(directory: Path) -> int:
    """Hold the directory for this process; the operating system lets go when it ends, however it ends."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(directory, error) from None
    try:
        _lock_descriptor(descriptor)
    except OSError:
        os.close(descriptor)
        raise AgentExit(
            ExitCode.USAGE,
            f"another agent uses {directory}; stop it, or give this one a directory of its own with --data-dir",
        ) from None
    _say_who(descriptor)
    return descriptor


def holder(directory: Path) -> int | None:
    """The process id of the agent that uses the directory; None when none does, or where it cannot be told."""
    try:
        pid = int((directory / "lock").read_text())
        os.kill(pid, 0)
        descriptor = os.open(directory / "lock", os.O_RDWR)
    except (OSError, ValueError):
        return None
    # Another process may have been given the number since. An agent writes it only once it has the lock, so that
    # this cannot be in the way of one.
    try:
        _lock_descriptor(descriptor)
    except OSError:
        return pid
    finally:
        os.close(descriptor)
    return None


if sys.platform == "win32":

    def _lock_descriptor(descriptor: int) -> None:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _say_who(descriptor: int) -> None:
        """Nobody else could read it here."""

else:

    def _say_who(descriptor: int) -> None:
        with contextlib.suppress(OSError):  # a full disk: then nobody knows
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())

    def _lock_descriptor(descriptor: int) -> None:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _open_or_set_aside(file: Path) -> sqlite3.Connection:
    """Open the database; one that is damaged is moved aside, since the agent can live without it."""
    try:
        return _open(file)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # full, locked, read-only: the file itself is fine
            raise
        aside = file.with_name(f"{file.name}.damaged")
        logger.warning(
            "%s is damaged (%s): moved to %s; undelivered results in it are lost", file, error, aside
        )
    os.replace(file, aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{file}{suffix}")
    return _open(file)


def _open(file: Path) -> sqlite3.Connection:
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its log the same mode
    # Opened in a thread and then used by the event loop's only.
    connection = sqlite3.connect(file, timeout=5, cached_statements=16, check_same_thread=False)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Settings and table. Raises sqlite3.DatabaseError for a damaged file."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")  # sync() does it, off the event loop
    connection.execute("PRAGMA cache_size=-256")
    connection.execute(_SCHEMA)
    connection.commit()
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("its check failed")


def _text(result: Result | None) -> str | None:
    return None if result is None else jsontext.dumps(schema.encode(result))


def _read(attempt: str, mark: str, text: str | None) -> Record | None:
    try:
        result = None if text is None else schema.decode(Result, jsontext.loads(text))
        return Record(attempt, Mark(mark), result)
    except ValueError as error:
        logger.warning("the stored record of attempt %s is unreadable and ignored: %s", attempt, error)
        return None


def keep_rejected(directory: Path, record: Record) -> None:
    """Write the record as a file; beyond MAX_REJECTED the oldest go."""
    directory.mkdir(exist_ok=True, mode=0o700)
    file = directory / f"{record.attempt}.json"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(_text(record.result) or "null")
    kept = sorted(directory.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for surplus in kept[:-MAX_REJECTED]:
        surplus.unlink(missing_ok=True)
