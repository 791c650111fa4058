"""A machine that has a bare Python, a shell and an empty home, and runs a join line as a person would paste it."""

import os
import signal
import subprocess
import venv
from pathlib import Path

from tests.e2e.cluster import PATIENCE_S

AGENTS = ".retire-cluster/agent"  # in the home


class Newcomer:
    """`lines` run in it one after the other, what they say in one file."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.home = directory / "home"
        self.home.mkdir()
        self.python = directory / "python"
        venv.create(self.python, with_pip=False, symlinks=True)  # it has no package, pip included
        self.output = directory / "said.log"
        self._running: subprocess.Popen[bytes] | None = None

    def paste(self, line: str, *, home: Path | None = None) -> None:
        """Start the line in a shell."""
        environment = {"HOME": str(home or self.home), "PATH": f"{self.python / 'bin'}:/usr/bin:/bin"}
        with self.output.open("ab") as stream:
            self._running = subprocess.Popen(
                ["/bin/sh", "-c", line],
                env=environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text()

    def wait(self) -> int:
        """The exit code of what ends by itself."""
        assert self._running is not None
        return self._running.wait(PATIENCE_S)

    def stop(self) -> None:
        """Ctrl-C."""
        if self._running is not None and self._running.poll() is None:
            os.killpg(self._running.pid, signal.SIGINT)
            self._running.wait(PATIENCE_S)

    def kept(self) -> list[Path]:
        """The agents it has stored."""
        return sorted((self.home / AGENTS).glob("*.pyz*"))


def bare_python_knows(module: str, newcomer: Newcomer) -> bool:
    """Whether its Python can import it."""
    command = [str(newcomer.python / "bin" / "python3"), "-c", f"import {module}"]
    environment = {"HOME": str(newcomer.home)}
    done = subprocess.run(command, env=environment, cwd=newcomer.home, capture_output=True, check=False)
    return done.returncode == 0


def arguments_of_all() -> list[str]:
    """What `ps` shows everybody of every process, without the shells into which tests paste."""
    lines = subprocess.check_output(["ps", "-ww", "-eo", "args"], text=True).splitlines()
    return [line for line in lines if not line.startswith("/bin/sh -c ")]
