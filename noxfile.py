"""What has to hold on each Python: the unit tests, and the packages. `nox`, or `nox -s tests-3.13`.

An interpreter is found as PYTHON3_13=/path, on the PATH, or among pyenv's; a missing one is an error. With
DIST=directory the packages are those that were built there before (`nox -s build`), else they are built into dist/.
"""

import os
import shutil
import subprocess
from pathlib import Path

import nox

VERSIONS = ("3.11", "3.12", "3.13")
ROOT = Path(__file__).parent
DIST = Path(os.environ.get("DIST", ROOT / "dist")).resolve()
CHECK = "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '{}')"

nox.options.sessions = [f"tests-{version}" for version in VERSIONS]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True


def interpreter(version: str) -> str:
    """The path of a Python of that version; without one the version itself, which nox then misses by name."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [
        os.environ.get("PYTHON" + version.replace(".", "_"), ""),
        shutil.which(f"python{version}") or "",
        *map(str, sorted(pyenv.glob(f"{version}.*/bin/python"))),
    ]
    return next((item for item in candidates if item and _is(item, version)), version)


def _is(candidate: str, version: str) -> bool:
    try:
        done = subprocess.run([candidate, "-c", CHECK.format(version)], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


@nox.session
def build(session: nox.Session) -> None:
    """The wheel and the sdist, as a release uploads them."""
    session.install("hatchling>=1.27")
    session.run("hatchling", "build", "--clean", "--directory", str(DIST))


def tests(session: nox.Session) -> None:
    """The unit tests, and the packages installed elsewhere, at the locked versions.

    Whole processes, the code's shape and the REST API are the same on each Python; that they start, the packages'
    tests show. The explored orders of events go through rules that have tests of their own among these.
    """
    locks = "".join((ROOT / name).read_text() for name in ("requirements.txt", "requirements-dev.txt"))
    constraints = Path(session.create_tmp()) / "constraints.txt"
    constraints.write_text("\n".join(line for line in locks.splitlines() if not line.startswith("-e")))
    session.install("--constraint", str(constraints), "--editable", ".[api,test]")
    # Tests start hundreds of processes; each would compile the project's files anew.
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    pytest = ("python", "-m", "pytest")
    slow = ("--ignore=tests/unit/tasks/test_model.py", "--ignore=tests/unit/tasks/test_mutants.py")
    session.run(*pytest, "-n", "2", "--dist", "worksteal", "tests/unit", *slow)
    session.run(*pytest, "tests/packaging", env={"DIST": str(DIST)})


for _version in VERSIONS:
    nox.session(
        python=interpreter(_version),
        name=f"tests-{_version}",
        requires=[] if "DIST" in os.environ else ["build"],
    )(tests)
