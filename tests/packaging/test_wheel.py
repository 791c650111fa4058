"""The wheel and what the server's install of it does."""

import re
import sys
import tarfile
import tomllib
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

from retire_cluster import __version__
from tests.packaging.environment import ROOT, Environment, build, run

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SCRIPTS = sorted(PROJECT["scripts"])

pytestmark = pytest.mark.timeout(600)  # seconds; downloads the dependencies when pip's cache is cold


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


def test_a_wheel_built_from_the_sdist_is_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    (tmp_path / "again").mkdir()
    assert names(build("wheel", source, tmp_path / "again")) == names(wheel)


def test_an_installed_server_serves_the_same_agent_as_its_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    script = "from retire_cluster import zipapp; print(zipapp.archive().sha256)"

    found = {
        run(sys.executable, "-P", "-c", script, cwd=tmp_path, PYTHONPATH=str(place))
        for place in (tmp_path / "installed", ROOT)
    }

    assert len(found) == 1


def test_the_sdist_holds_what_builds_runs_and_explains_it(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        paths = [member.name.partition("/")[2] for member in archive if member.isfile()]
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "sdist"
    ]
    always = {"pyproject.toml", "PKG-INFO", ".gitignore", "README.md", "LICENSE"}
    assert {path.split("/")[0] for path in paths} == {*listed["only-include"], *always}
    suffixes = {Path(path).suffix for path in paths}
    assert not suffixes & {".pyc", ".sqlite3", ".log", ".so"}
    here = {str(file.relative_to(ROOT)) for file in (ROOT / "docs").rglob("*") if file.is_file()}
    assert here <= set(paths)


def test_both_describe_themselves_as_an_index_wants_it(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    said = run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", wheel, sdist, cwd=tmp_path)
    assert said.count("PASSED") == 2


def test_the_metadata_name_version_licence_and_pythons(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        about = f"retire_cluster-{__version__}.dist-info"
        told = BytesParser().parsebytes(archive.read(f"{about}/METADATA"))
        licence = archive.read(f"{about}/licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert (told["Version"], told["License-Expression"]) == (__version__, "MIT")
    assert told["Requires-Python"] == ">=3.11"
    assert told["Description-Content-Type"] == "text/markdown"
    assert "# Retire-Cluster" in told.get_payload()


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
    assert server(script, "--version").strip() == f"{script} {__version__}"
