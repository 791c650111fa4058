"""The distribution as a user gets it: built, installed away from the checkout, used."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCRIPTS = sorted(PROJECT["scripts"])
BASE = PROJECT["dependencies"]

pytestmark = pytest.mark.timeout(600)  # seconds; downloads the dependencies when pip's cache is cold


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Output of a command that must succeed, run without anything this checkout could lend it."""
    inherited = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RETIRE_CLUSTER", "DJANGO"))
    }
    done = subprocess.run(
        command, cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


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

    def pip(self, *arguments: str | Path) -> str:
        """Our pip, working on that environment."""
        return run(
            sys.executable, "-m", "pip", "-qq", "--python", self.bin / "python", *arguments, cwd=self.empty
        )

    def __call__(self, program: str, *arguments: str, **environment: str) -> str:
        """Output of a program of the environment, with a home and data directory of its own."""
        environment |= {"HOME": str(self.home), "RETIRE_CLUSTER_DATA_DIR": str(self.home / "data")}
        return run(self.bin / program, *arguments, cwd=self.empty, **environment)

    @property
    def packages(self) -> Path:
        (found,) = (self.home / "venv" / "lib").glob("python*/site-packages")
        return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def server(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The server's install: `retire-cluster[api]`, at the locked versions."""
    home = tmp_path_factory.mktemp("server")
    locked = (ROOT / "requirements.txt").read_text().splitlines()
    constraints = home / "constraints.txt"
    constraints.write_text("\n".join(line for line in locked if not line.startswith("-e")))
    environment = Environment(home)
    environment.pip("install", "--no-compile", "--constraint", constraints, f"{wheel}[api]")
    return environment


@pytest.fixture(scope="module")
def phone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The base install as on a device for which no compiled wheel exists."""
    environment = Environment(tmp_path_factory.mktemp("phone"))
    environment.pip("install", "--no-deps", wheel)
    environment.pip(
        *("install", "--only-binary=:all:", "--platform=any", "--implementation=py", "--abi=none"),
        *("--target", environment.packages, *BASE),
    )
    return environment


def names(wheel: Path) -> list[str]:
    return sorted(name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name)


def test_the_wheel_holds_every_template_and_static_file(wheel: Path) -> None:
    here = {f"retire_cluster/{file.relative_to(ROOT)}" for file in (ROOT / "templates").rglob("*.html")}
    here |= {str(file.relative_to(ROOT)) for file in ROOT.glob("*/static/**/*") if file.is_file()}
    assert here, "the project has templates and static files"
    assert here <= set(names(wheel))


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in names(wheel)}
    assert tops == {"retire_cluster", "devices", "tasks", "clusterconfig"}


def test_a_wheel_built_from_the_sdist_is_the_same(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "sdist").mkdir()
    with tarfile.open(build("sdist", ROOT, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    (tmp_path / "again").mkdir()
    assert names(build("wheel", source, tmp_path / "again")) == names(wheel)


def test_the_server_install_has_all_it_needs(server: Environment) -> None:
    server.pip("check")
    assert "no issues" in server("retire-cluster-manage", "check")
    assert "Applying tasks.0001_initial" in server("retire-cluster-manage", "migrate", "--no-color")


LOOK = """
import django, retire_cluster
django.setup()
from django.contrib.staticfiles import finders
from django.template.loader import get_template
print(retire_cluster.__file__)
print(get_template("base.html").origin.name)
print(finders.find("retire_cluster/style.css"))
"""


def test_the_server_finds_its_templates_and_static_files(server: Environment) -> None:
    output = server("python", "-c", LOOK, DJANGO_SETTINGS_MODULE="retire_cluster.settings")
    places = [Path(line).resolve() for line in output.splitlines()]
    assert len(places) == 3
    assert all(place.is_relative_to(server.packages.resolve()) for place in places), output


def test_the_server_install_proves_the_delivery_guarantees(server: Environment) -> None:
    said = server("retire-cluster-manage", "torture", "--episodes", "1", "--agents", "2")
    assert re.search(r"^violations +0 \(must be 0\)$", said, re.MULTILINE), said


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_of_the_server_install_explains_itself(server: Environment, script: str) -> None:
    assert server(script, "--help").strip()


def test_the_base_install_is_pure_python(phone: Environment) -> None:
    compiled = [path.name for path in phone.packages.rglob("*") if path.suffix in {".so", ".pyd", ".dylib"}]
    assert compiled == []
    phone.pip("check")


def test_the_base_install_runs_the_agent(phone: Environment) -> None:
    phone("python", "-W", "error", "-c", "import retire_cluster.agent, retire_cluster.cli.worker")
    version = phone("python", "-c", "import retire_cluster; print(retire_cluster.__version__)").strip()
    assert version in phone("retire-cluster-worker", "--version")


def test_the_base_install_has_the_sdk(phone: Environment) -> None:
    program = (
        "from retire_cluster.sdk import RetireClusterAPI, SdkError\n"
        "from rich.progress import Progress\n"
        "try:\n"
        "    RetireClusterAPI('http://127.0.0.1:9', retries=0).cluster_status()\n"
        "except SdkError as error:\n"
        "    print(error)"
    )
    assert "check the address" in phone("python", "-W", "error", "-c", program)
