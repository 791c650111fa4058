"""The machine as the probes see it: files below a root, the environment, the platform's name. Tests fake it."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MEGABYTE = 2**20
COMMAND_TIMEOUT_S = 3.0


class Unknown(Exception):
    """A probe cannot tell; the message is the reason, in words for a person."""


def _affinity() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


@dataclass(frozen=True, slots=True)
class Host:
    """Where probes read from. The default is this machine."""

    root: Path = Path("/")
    platform: str = sys.platform
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    has_android_api: bool = hasattr(sys, "getandroidapilevel")
    affinity: Callable[[], int | None] = _affinity

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def text(self, path: str) -> str:
        """A file's text without surrounding blanks and any NUL. Raises Unknown."""
        try:
            return self.path(path).read_text(encoding="utf-8", errors="replace").replace("\x00", " ").strip()
        except OSError as error:
            raise Unknown(f"{path}: {error.strerror}") from None

    def number(self, path: str) -> int:
        """The integer a file holds. Raises Unknown."""
        text = self.text(path)
        try:
            return int(text)
        except ValueError:
            raise Unknown(f"{path} holds no number") from None

    def names(self, path: str) -> list[str]:
        """Sorted entries of a directory. Raises Unknown when it is missing or may not be listed."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError as error:
            raise Unknown(f"{path}: {error.strerror}") from None

    def exists(self, path: str) -> bool:
        try:
            return self.path(path).exists()
        except OSError:
            return False

    def find_program(self, name: str) -> str | None:
        """The program's path, looked for in PATH below the root."""
        for directory in self.environ.get("PATH", "").split(os.pathsep):
            if directory and os.access(candidate := self.path(f"{directory}/{name}"), os.X_OK):
                return str(candidate)
        return None

    def cgroup_texts(self, name: str) -> Iterator[str]:
        """The file `name` of this process's cgroup and all above it (version 2), where readable."""
        try:
            line = next(
                line for line in self.text("/proc/self/cgroup").splitlines() if line.startswith("0::")
            )
        except (Unknown, StopIteration):
            line = "0::/"
        path = line.removeprefix("0::").strip("/")
        groups = [path, *map(str, Path(path).parents)] if path else ["."]
        for group in groups:
            # The root group has no limits, and containers hide what is above them.
            with contextlib.suppress(Unknown):
                yield self.text(f"/sys/fs/cgroup/{group}/{name}")


def run(arguments: list[str]) -> str:
    """Standard output of a short helper program. Raises Unknown."""
    import subprocess  # most devices never need it

    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True
        )
    except subprocess.TimeoutExpired:
        raise Unknown(f"{arguments[0]} did not answer in {COMMAND_TIMEOUT_S:g} s") from None
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise Unknown(f"{arguments[0]} failed: {error}") from None
    return done.stdout.strip()
