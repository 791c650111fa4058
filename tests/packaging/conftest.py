"""The distributions, each built once, and the installations that tests of any module use."""

import os
from pathlib import Path

import pytest

from tests.packaging.environment import ROOT, Environment, build


def distribution(kind: str, pattern: str, directory: Path) -> Path:
    """One that was built before, where the variable DIST says so: the same for every Python; else a new one."""
    if "DIST" not in os.environ:
        return build(kind, ROOT, directory)
    (found,) = Path(os.environ["DIST"]).glob(pattern)
    return found


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distribution("wheel", "*.whl", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distribution("sdist", "*.tar.gz", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def server(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The server's install: `retire-cluster[api]`, at the locked versions."""
    home = tmp_path_factory.mktemp("server")
    locked = (ROOT / "requirements.txt").read_text().splitlines()
    constraints = home / "constraints.txt"
    constraints.write_text("\n".join(line for line in locked if not line.startswith("-e")))
    environment = Environment(home)
    environment.pip("install", "--no-compile", "--constraint", constraints, f"{wheel}[api]")
    return environment


@pytest.fixture(scope="session")
def phone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The base install as on a device for which no compiled wheel exists, and which has no compiler."""
    environment = Environment(tmp_path_factory.mktemp("phone"))
    # pip would keep what it compiled, or use what somebody compiled before.
    options = ("--no-compile", "--no-cache-dir", "--no-binary=websockets")
    environment.pip("install", *options, wheel, CC="/bin/false")
    return environment


@pytest.fixture(scope="session")
def laptop(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The base install from the sdist, its dependencies from wheels only."""
    environment = Environment(tmp_path_factory.mktemp("laptop"))
    environment.pip("install", "--no-compile", "--only-binary=:all:", "--no-binary=retire-cluster", sdist)
    return environment
