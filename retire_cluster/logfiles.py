"""A log file that rotates by size and may be shared by any number of processes. The standard library only.

Each line is one write in append mode, so lines of several processes never mix. Whoever finds the file full renames
it, under a lock on the file itself; the others notice at their next line that the name stands for another file. So
a rename from outside, as logrotate does, works as well.
"""

import contextlib
import errno
import logging
import os
import stat
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

if sys.platform != "win32":
    import fcntl

WINDOWS = sys.platform == "win32"  # there the agent is the only writer
MEGABYTE = 1024 * 1024
DEFAULT_MB, DEFAULT_FILES = 10, 5
MOST_MB, MOST_FILES = 10_240, 100
# Append: the kernel chooses the place of each write. Not blocking: a pipe that nobody reads stops no work.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)


class SharedFile(logging.Handler):
    """Writes to `path`; at `limit_bytes` (0: never) it becomes `path.1`, at most `files` are kept in all.

    A new file is for its owner only. A file that cannot be written stops nothing: standard error is told once, and
    gets the lines meanwhile.
    """

    def __init__(
        self, path: str | Path, limit_bytes: int = DEFAULT_MB * MEGABYTE, files: int = DEFAULT_FILES
    ) -> None:
        super().__init__()
        self._path = Path(path).expanduser().absolute()
        self._limit = limit_bytes
        self._files = files
        self._descriptor: int | None = None
        self._process = os.getpid()
        self._torn = False  # the last line is incomplete
        self._troubles: set[str] = set()  # that were said

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        try:
            self._write(line.encode(errors="backslashreplace"))
        except OSError as error:
            self._complain("write", error)
            _say(line)
        else:
            self._troubles.discard("write")

    def close(self) -> None:
        with self.lock or contextlib.nullcontext():
            self._forget()
        super().close()

    def _write(self, data: bytes) -> None:
        descriptor = self._open()
        if self._is_full(descriptor, len(data)):
            descriptor = self._rotated(descriptor, len(data))
        data = b"\n" + data if self._torn else data
        written = os.write(descriptor, data)
        self._torn = written < len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self) -> int:
        """The descriptor of what the name stands for now."""
        forked = self._process != os.getpid()  # a shared open file has one lock for both
        if self._descriptor is not None and (forked or not _is_at(self._descriptor, self._path)):
            self._forget()
        if self._descriptor is None:
            self._process = os.getpid()
            self._descriptor = os.open(self._path, _FLAGS, 0o600)
            self._torn = False
        return self._descriptor

    def _is_full(self, descriptor: int, more: int) -> bool:
        now = os.fstat(descriptor)
        return bool(self._limit and now.st_size and now.st_size + more > self._limit) and stat.S_ISREG(
            now.st_mode
        )

    def _rotated(self, descriptor: int, more: int) -> int:
        """Rotate, unless another process does; the descriptor to write to."""
        try:
            with _locked(descriptor) as ours:
                if ours and _is_at(descriptor, self._path) and self._is_full(descriptor, more):
                    self._rename()
        except OSError as error:
            self._complain("rotate", error)
        else:
            self._troubles.discard("rotate")
        return self._open()

    def _rename(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._files))]
        if WINDOWS:
            self._forget()  # Windows renames no open file
        if len(names) == 1:
            self._path.unlink()
        for newer, older in reversed(list(pairwise(names))):
            if newer.exists():
                os.replace(newer, older)

    def _forget(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _complain(self, what: str, error: OSError) -> None:
        if what not in self._troubles:
            self._troubles.add(what)
            _say(f"cannot {what} the log file {self._path}: {error.strerror or error}; the work goes on\n")


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[bool]:
    """Hold the file's lock; yields False at once while another process has it: it may be stopped for long."""
    if WINDOWS:
        yield True
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _say(text: str) -> None:
    """Tell standard error, if there is one that listens."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or there is none
        sys.stderr.write(text)
        sys.stderr.flush()
