"""Building the distributions, and empty environments to install them into, without anything of this checkout."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def foreign_environment() -> dict[str, str]:
    """This process's environment without what would lead a program back to the checkout."""
    ours = ("PYTHON", "RETIRE_CLUSTER", "DJANGO", "PYTEST")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


def run(*command: str | Path, cwd: Path, expected: int = 0, **environment: str) -> str:
    """What a command prints that must end with the expected code."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**foreign_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expected, (
        f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    )
    return done.stdout if expected == 0 else done.stderr


def build(kind: str, source: Path, target: Path) -> Path:
    """The sdist or wheel of a source tree."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", target, cwd=source)
    (built,) = target.iterdir()
    return built


class Environment:
    """A fresh virtual environment outside the checkout."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bin = home / "venv" / "bin"
        self.empty = home / "empty"  # where commands run: nothing to import there
        self.empty.mkdir()
        run(sys.executable, "-m", "venv", "--without-pip", home / "venv", cwd=home)

    def pip(self, *arguments: str | Path, **environment: str) -> str:
        """Our pip, working on that environment."""
        pip = (sys.executable, "-m", "pip", "-qq", "--python", self.bin / "python")
        return run(*pip, *arguments, cwd=self.empty, expected=0, **environment)

    def variables(self) -> dict[str, str]:
        """A home and data directory of its own."""
        return {"HOME": str(self.home), "RETIRE_CLUSTER_DATA_DIR": str(self.home / "data")}

    def __call__(self, program: str, *arguments: str, expected: int = 0, **environment: str) -> str:
        """What a program of the environment prints."""
        environment |= self.variables()
        return run(self.bin / program, *arguments, cwd=self.empty, expected=expected, **environment)

    @property
    def packages(self) -> Path:
        (found,) = (self.home / "venv" / "lib").glob("python*/site-packages")
        return found

    def compiled(self) -> set[str]:
        """The packages that hold compiled code."""
        files = [path for path in self.packages.rglob("*") if path.suffix in {".so", ".pyd", ".dylib"}]
        return {path.relative_to(self.packages).parts[0] for path in files}
