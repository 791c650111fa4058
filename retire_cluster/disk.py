"""The disk below the data directory: how much room is left, and why it takes nothing."""

import os
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path

PROBE_BYTES = 64 * 1024  # more than the slack of a file's last block
WRITE_ERRORS = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
SUSPECTED_S = 60.0
ADVICE = "its operator has to make room on the disk of the data directory, then all goes on by itself"


_refused_at = float("-inf")


def is_refusal(error: BaseException) -> bool:
    """Whether SQLite failed because of what it stands on: a full disk, a quota, a broken or read-only medium."""
    global _refused_at
    found: BaseException | None = error
    while found is not None and not isinstance(found, sqlite3.Error):
        found = found.__cause__
    code = getattr(found, "sqlite_errorcode", None)
    refused = code is not None and code & 0xFF in WRITE_ERRORS  # the rest of the bits says where
    if refused:
        _refused_at = time.monotonic()
    return refused


def refused_lately() -> bool:
    """Whether this process was refused a write within the last minute."""
    return time.monotonic() - _refused_at < SUSPECTED_S


def trouble(directory: Path) -> str:
    """Why no file can be written there, in the system's words; empty when one can."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0" * PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return ""


def free_mb(directory: Path) -> float:
    """What an ordinary account may still write there, in units of 2^20 bytes."""
    return round(shutil.disk_usage(directory).free / 2**20, 1)


def words(directory: Path, error: BaseException) -> str:
    """What clients and operators are told of a write that SQLite could not do."""
    return f"the server's disk is full or cannot be written to ({trouble(directory) or error}): {ADVICE}"
