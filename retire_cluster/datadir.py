"""The data directory: the database of the default shape, and every secret made at first start, each 0600.

The directory is made 0700: one that was there before keeps its mode.
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from retire_cluster import env


class DataDirError(RuntimeError):
    """The data directory cannot be used; the message says why and what to do."""


def location() -> Path:
    """Where the data directory is: RETIRE_CLUSTER_DATA_DIR, else ~/.retire-cluster."""
    return env.path("DATA_DIR", Path("~/.retire-cluster"))


def ensure(directory: Path) -> Path:
    """Create the directory, private to its owner, and prove that it can be written to."""
    probe = directory / f".write-test-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataDirError(
            f"cannot write to the data directory {directory}: {error.strerror}; "
            "choose another with --data-dir or RETIRE_CLUSTER_DATA_DIR"
        ) from None
    return directory


def read_or_create(file: Path, make: Callable[[], str]) -> str:
    """The file's text; made, and written 0600 in one step, when there is none yet.

    Two processes starting at once agree: the link fails for the second, which then reads the first one's.
    """
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataDirError(f"cannot read {file}: {error.strerror}") from None
    draft = file.with_name(f".{file.name}-{os.getpid()}-{secrets.token_hex(4)}")
    write_private(draft, make())
    try:
        os.link(draft, file)
    except FileExistsError:
        return file.read_text().strip()
    finally:
        draft.unlink()
    return file.read_text().strip()


def write_private(file: Path, content: str) -> None:
    """Write a file nobody else may read; it is never readable by others, not even for a moment."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(content + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def secret_key(directory: Path) -> str:
    """Django's SECRET_KEY: RETIRE_CLUSTER_SECRET_KEY, else one made once and kept in the data directory."""
    return env.text("SECRET_KEY", "") or read_or_create(
        ensure(directory) / "secret-key", lambda: secrets.token_urlsafe(48)
    )
