"""The version stands in one place, retire_cluster/__init__.py; whatever else has one follows it."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import yaml

from retire_cluster import __version__
from tests.architecture.code import PRODUCT, ROOT, dotted, sources

# Measured results and the history name the versions of their time.
HISTORY = {"CHANGELOG.md", "docs/explanation/benchmarks.md", "docs/explanation/performance.md"}
GENERATED = {"node_modules", "__pycache__"}
UNREAD = {".pyc", ".woff2", ".png", ".ico", ".jpg", ".zip"}
PLACES = (*PRODUCT, "templates", "docs", "deploy", "clients")
OURS = Path("retire_cluster") / "__init__.py"


def naming(version: str, text: str) -> list[int]:
    """Lines that name the version."""
    number = re.compile(rf"(?<![\d.]){re.escape(version)}(?![\d.]*\d)")
    return [line for line, words in enumerate(text.splitlines(), 1) if number.search(words)]


def texts() -> Iterator[Path]:
    """What somebody might write a version into, from the project's root."""
    files = [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml", ".yml", ".py"}]
    files += [ROOT / "Dockerfile", ROOT / "Makefile"]
    files += [path for place in PLACES for path in (ROOT / place).rglob("*")]
    for path in files:
        if path.is_file() and path.suffix not in UNREAD and not GENERATED & set(path.parts):
            yield path.relative_to(ROOT)


def packages_of_node() -> set[Path]:
    """package.json files, and their locks: they cannot read Python."""
    return {path for path in texts() if path.name in {"package.json", "package-lock.json"}}


def test_it_is_written_in_one_place() -> None:
    found = {path for path in texts() if naming(__version__, (ROOT / path).read_text())}
    assert found - {Path(path) for path in HISTORY} - packages_of_node() == {OURS}


def test_only_one_module_assigns_it() -> None:
    assigned = [
        source.path
        for source in sources(*PRODUCT)
        for node in source.tree.body
        if any(dotted(target) == "__version__" for target in getattr(node, "targets", []))
    ]
    assert assigned == [str(OURS)]


def test_the_distributions_read_it_there() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["project"]["dynamic"] == ["version"]
    assert "version" not in settings["project"]
    assert settings["tool"]["hatch"]["version"]["path"] == str(OURS)


def test_packages_of_other_languages_have_the_same() -> None:
    told = {path: json.loads((ROOT / path).read_text())["version"] for path in packages_of_node()}
    assert told == dict.fromkeys(told, __version__)


def test_the_api_s_version_is_the_one_in_its_paths() -> None:
    """A new release of the program is no new API."""
    described = yaml.safe_load((ROOT / "docs" / "reference" / "openapi.yaml").read_text())
    version = described["info"]["version"]
    own = [path for path in described["paths"] if path.startswith("/api/v")]
    assert own
    assert all(path.startswith(f"/api/{version}") for path in own)


def test_a_version_is_found_and_no_longer_one_is_taken_for_it() -> None:
    assert naming("0.1.0", "a\nretire-cluster 0.1.0.\nv0.1.0\n10.1.0\n0.1.0.7\n0.1.01") == [2, 3]
