"""The keepers a device may have: each writes its files, starts and stops what it keeps, and removes them again."""

import contextlib
import getpass
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from retire_cluster.agent.keeping import texts
from retire_cluster.agent.keeping.places import Place

DOWN_S = 40.0  # until an agent that was told to stop has handed back its tasks
_LOOK_S = 0.1

T = TypeVar("T")


class KeepError(Exception):
    """Keeping cannot be set up; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be kept running."""

    command: Sequence[str]
    directory: str  # the working directory
    path: str  # of programs: what boots a device knows few places
    undo: str  # the command that removes the keeper


@dataclass(frozen=True, slots=True)
class Written:
    """Something the keeper wrote: where, and exactly what."""

    place: str
    text: str


class Keeper(Protocol):
    """One way to keep the agent of one data directory running."""

    kind: str

    def is_available(self) -> bool:
        """Whether this device has it."""

    def is_installed(self) -> bool:
        """Whether it keeps this agent."""

    def install(self, plan: Plan) -> list[Written]:
        """Write it; the same again changes nothing. Raises KeepError."""

    def advice(self) -> list[str]:
        """What the owner still has to do by hand."""

    def start(self) -> None:
        """Start what it keeps, if that does not run. Raises KeepError."""

    def stop(self) -> None:
        """End what it keeps, until it is started again."""

    def trouble(self) -> str | None:
        """Why it does not work, in words; None while it does."""

    def remove(self) -> list[str]:
        """Stop and remove it; returns the places that are gone."""


class Systemd:
    """A unit of the user's own systemd."""

    kind = "systemd"

    def __init__(self, place: Place) -> None:
        self._place = place
        self._unit = place.unit.name
        self._file = place.unit

    def is_available(self) -> bool:
        return self._place.has("systemctl") and self._systemctl("show-environment")[0] == 0

    def is_installed(self) -> bool:
        return self._file.exists()

    def install(self, plan: Plan) -> list[Written]:
        text = texts.unit(plan.command, directory=plan.directory, path=plan.path, undo=plan.undo)
        _write(self._file, text)
        for words in (("daemon-reload",), ("enable", self._unit)):
            self._demand(*words)
        if not self.lingers():
            self._place.call("loginctl", "enable-linger", self.user)
        return [Written(str(self._file), text)]

    def advice(self) -> list[str]:
        if self.lingers():
            return []
        ends = f"without lingering it ends when {self.user} logs out, and does not start at boot"
        return [f"{ends}: sudo loginctl enable-linger {self.user}"]

    def start(self) -> None:
        self._demand("start", self._unit)

    def stop(self) -> None:
        self._systemctl("stop", self._unit)

    def trouble(self) -> str | None:
        code, said = self._systemctl("is-active", self._unit)
        if code == 0:
            return None
        return f"the unit {self._unit} is {said.strip() or 'unknown'}: journalctl --user -u {self._unit} says why"

    def remove(self) -> list[str]:
        if not self.is_installed():
            return []
        self._systemctl("disable", "--now", self._unit)
        self._file.unlink()
        self._systemctl("daemon-reload")
        return [str(self._file)]

    @property
    def user(self) -> str:
        return getpass.getuser()

    def lingers(self) -> bool:
        """Whether the user's systemd runs without a session of the user."""
        code, said = self._place.call("loginctl", "show-user", self.user, "-p", "Linger", "--value")
        return code == 0 and said.strip() == "yes"

    def _systemctl(self, *words: str) -> tuple[int, str]:
        return self._place.call("systemctl", "--user", *words)

    def _demand(self, *words: str) -> None:
        code, said = self._systemctl(*words)
        if code:
            raise KeepError(f"systemctl --user {' '.join(words)} failed: {said.strip()}")


class _Loop:
    """What cron and Termux:Boot have in common: a script that starts the agent again whenever it dies."""

    shell = "/bin/sh"

    def __init__(self, place: Place) -> None:
        self._place = place

    def write_loop(self, plan: Plan) -> Written:
        text = texts.loop(plan.command, directory=plan.directory, path=plan.path, undo=plan.undo)
        _write(self._place.script, text, mode=0o700)
        return Written(str(self._place.script), text)

    def start(self) -> None:
        import subprocess

        if not self._running():
            # A shell of its own, which ends at once: the loop then is nobody's child here.
            subprocess.run(
                [self.shell, "-c", '"$0" "$1" &', self.shell, str(self._place.script)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=dict(self._place.host.environ),
                check=True,
            )

    def stop(self) -> None:
        for pid in self._running():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
        wait(lambda: not self._running(), DOWN_S)  # it ends after its agent

    def trouble(self) -> str | None:
        if not self._place.script.exists():
            return f"{self._place.script} is missing"
        return None if self._running() else "its loop does not run; it starts at the next boot"

    def remove_loop(self) -> list[str]:
        self.stop()
        if not self._place.script.exists():
            return []
        self._place.script.unlink()
        return [str(self._place.script)]

    def _running(self) -> list[int]:
        """The processes of the loop, where the system tells its processes' command lines."""
        script = os.fsencode(self._place.script)
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if entry.read_bytes().split(b"\0")[1:2] == [script]:
                    found.append(int(entry.parent.name))
        return found


class Cron(_Loop):
    """An @reboot line in the user's crontab."""

    kind = "cron"

    @property
    def _mark(self) -> str:
        return f"# {self._place.name}"

    def is_available(self) -> bool:
        return self._place.has("crontab")

    def is_installed(self) -> bool:
        return self._place.script.exists() and any(self._is_ours(line) for line in self._lines())

    def install(self, plan: Plan) -> list[Written]:
        script = self.write_loop(plan)
        line = texts.cron_line(str(self._place.script), self._mark)
        self._store([*self._others(), line])
        return [script, Written("crontab", f"{line}\n")]

    def advice(self) -> list[str]:
        return []

    def remove(self) -> list[str]:
        if not self.is_installed():
            return []
        self._store(self._others())
        return [*self.remove_loop(), f"the line of the crontab that ends in '{self._mark}'"]

    def _is_ours(self, line: str) -> bool:
        return line.endswith(f" {self._mark}")

    def _others(self) -> list[str]:
        return [line for line in self._lines() if not self._is_ours(line)]

    def _lines(self) -> list[str]:
        code, said = self._place.call("crontab", "-l")
        return said.splitlines() if code == 0 else []  # a user without a crontab

    def _store(self, lines: list[str]) -> None:
        code, said = self._place.call("crontab", "-", said="".join(f"{line}\n" for line in lines))
        if code:
            raise KeepError(f"crontab refuses the line: {said.strip()}")


class TermuxBoot(_Loop):
    """A script that the app Termux:Boot runs when Android has started."""

    kind = "termux"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._file = place.boot_script
        self.shell = f"{place.host.environ.get('PREFIX', '')}/bin/sh"

    def is_available(self) -> bool:
        return "TERMUX_VERSION" in self._place.host.environ

    def is_installed(self) -> bool:
        return self._file.exists()

    def install(self, plan: Plan) -> list[Written]:
        script = self.write_loop(plan)
        text = texts.boot_script(str(self._place.script), shell=self.shell, undo=plan.undo)
        _write(self._file, text, mode=0o700)
        return [script, Written(str(self._file), text)]

    def advice(self) -> list[str]:
        return [
            "install the app Termux:Boot, from where Termux came from, and open it once",
            "Android's settings, Apps, Termux, Battery: Unrestricted; the same for Termux:Boot",
        ]

    def start(self) -> None:
        self._place.call("termux-wake-lock")
        super().start()

    def remove(self) -> list[str]:
        if not self.is_installed():
            return []
        self._file.unlink()
        self._place.call("termux-wake-unlock")
        return [*self.remove_loop(), str(self._file)]


def keepers(place: Place) -> list[Keeper]:
    """All of them, the best first."""
    return [TermuxBoot(place), Systemd(place), Cron(place)]


def installed(place: Place) -> list[Keeper]:
    """Those that keep this agent."""
    return [keeper for keeper in keepers(place) if keeper.is_installed()]


def choose(place: Place, kind: str | None) -> Keeper:
    """The wanted one, else the best this device has. Raises KeepError."""
    for keeper in keepers(place):
        if kind in (None, keeper.kind) and keeper.is_available():
            return keeper
    if kind is not None:
        raise KeepError(f"--keeper {kind}: this device has none")
    raise KeepError(
        "this device has neither a systemd of the user's own, nor cron, nor Termux: "
        "have whatever starts programs here run the agent, with the flags it runs with now"
    )


def wait(condition: Callable[[], T], seconds: float) -> T:
    """The condition's first true value within the time; its last one otherwise."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(_LOOK_S)
    return found


def _write(file: Path, text: str, mode: int = 0o600) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.tmp")
        draft.write_text(text, encoding="utf-8")
        draft.chmod(mode)
        draft.replace(file)
    except OSError as error:
        raise KeepError(f"cannot write {file}: {error.strerror}") from None
