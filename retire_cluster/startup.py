"""What every server process does before it serves: a usable data directory, a migrated database, one gateway."""

import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from retire_cluster import __version__, datadir

OUR_APPS = {"clusterconfig", "devices", "events", "tasks"}
MIGRATION_LOCK = 0x5243_4D49  # of PostgreSQL's advisory locks, which share one number space in a database


class StartupError(RuntimeError):
    """The process cannot start as asked; the message is one line that says what to do. Exit code 2."""


def prepare(directory: Path, *, migrate: bool) -> None:
    """Make the data directory and the database ready. Raises StartupError."""
    ensure_directory(directory)
    try:
        if connection.vendor == "sqlite":
            check_file_system(directory)
            _create_private(connection.settings_dict["NAME"])
        with exclusive(directory / "migrate.lock", wait=True):
            _migrate(directory, allowed=migrate)
    except DatabaseError as error:
        raise StartupError(f"the database cannot be used: {error}".replace("\n", " ")) from None


def _create_private(database: str | Path) -> None:
    """Create the database's file, if there is none, for its owner only, whoever may look into its directory."""
    with suppress(OSError):  # it is there, or SQLite says what is wrong with it
        os.close(os.open(database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def ensure_directory(directory: Path) -> None:
    """Create it and prove that it can be written to. Raises StartupError."""
    try:
        datadir.ensure(directory)
    except datadir.DataDirError as error:
        raise StartupError(str(error)) from None


def check_file_system(directory: Path) -> None:
    """SQLite's WAL and locks must really work here: on NFS, SMB or Android's shared storage they do not."""
    file = directory / f".lock-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    advice = f"{directory} cannot hold the database ({{}}); choose a local disk with --data-dir"
    try:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as first:
            mode = first.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            first.execute("CREATE TABLE probe (x)")
            first.execute("BEGIN IMMEDIATE")
            if mode != "wal" or not _refused(file):
                raise StartupError(advice.format("its locks do not work, as on network or shared storage"))
    except sqlite3.Error as error:
        raise StartupError(advice.format(error)) from None
    finally:
        for leftover in directory.glob(f"{file.name}*"):
            leftover.unlink(missing_ok=True)


def _refused(file: Path) -> bool:
    """Whether a second writer is kept out."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as second:
        try:
            second.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


def _migrate(directory: Path, *, allowed: bool) -> None:
    _refuse_newer()
    if not _pending():
        return
    if not allowed:
        raise StartupError(
            "the database must be migrated and --no-migrate forbids it; run: retire-cluster-manage migrate"
        )
    with _one_migrator():
        applied = _refuse_newer()
        if not _pending():
            return  # another host did it while this one waited
        if applied and connection.vendor == "sqlite":
            _copy_before_migrating(directory)
        call_command("migrate", interactive=False, verbosity=0)


def _refuse_newer() -> set[tuple[str, str]]:
    """The migrations the database has. Raises StartupError where this program does not know one of them."""
    applied = set(MigrationRecorder(connection).applied_migrations())
    on_disk = MigrationLoader(None).disk_migrations
    newer = sorted(f"{app}.{name}" for app, name in applied - on_disk.keys() if app in OUR_APPS)
    if newer:
        raise StartupError(
            f"the database is newer than this program (it has {', '.join(newer)}, this is {__version__}); "
            "install the newer version, or restore a backup from before the upgrade"
        )
    return applied


def _pending() -> bool:
    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


@contextmanager
def _one_migrator() -> Iterator[None]:
    """Keep other hosts that start at this time off the migrations; they wait. On SQLite the lock file does it."""
    if connection.vendor == "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
    try:
        yield
    finally:
        with (
            suppress(DatabaseError),
            connection.cursor() as cursor,
        ):  # a connection that is gone holds no lock
            cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])


def _copy_before_migrating(directory: Path) -> None:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    copy = directory / f"before-{__version__}-{stamp}.sqlite3"
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # VACUUM INTO accepts an empty file
    with connection.cursor() as cursor:
        cursor.execute("VACUUM INTO %s", [str(copy)])


@contextmanager
def exclusive(file: Path, *, wait: bool) -> Iterator[IO[str]]:
    """Hold a lock file; it is free again when the process ends, however it ends. Raises StartupError."""
    stream = file.open("a+")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.seek(0)
        holder = stream.read().strip() or "unknown"
        stream.close()
        raise StartupError(
            f"another gateway (process {holder}) uses {file.parent}; stop it, or choose another --data-dir"
        ) from None
    try:
        stream.seek(0)
        stream.truncate()
        stream.write(str(os.getpid()))
        stream.flush()
        yield stream
    finally:
        stream.close()
