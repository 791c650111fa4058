"""requirements*.txt are in step with pyproject.toml."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.code import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# What the lock was compiled for; the oldest Python has the most requirements.
ENVIRONMENT = {"python_version": "3.11", "python_full_version": "3.11.3", "extra": ""}
UNPINNED = {"setuptools"}  # pip's own ground: pip-compile leaves it out on purpose


def pins(text: str) -> dict[str, str]:
    """Version by canonical name."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)(?: ;.*)?$", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def violations(wanted: list[str], pinned: dict[str, str]) -> list[str]:
    """Requirements that the pins do not answer."""
    found = []
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement} is not answered by {version}; run `make lock`")
    return found


def reachable(wanted: list[str]) -> set[str]:
    """Canonical names of all that the requirements bring in, by the metadata of what is installed."""
    queue, seen = [Requirement(item) for item in wanted], set[tuple[str, str]]()
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                queue += [item for item in _needs(name) if _applies(item, extra)]
    return {name for name, _ in seen}


def _needs(name: str) -> list[Requirement]:
    try:
        return [Requirement(item) for item in requires(name) or []]
    except PackageNotFoundError:
        return []  # needed on an older Python only


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**ENVIRONMENT, "extra": extra})


LOCK = (ROOT / "requirements.txt").read_text()
DEV_LOCK = (ROOT / "requirements-dev.txt").read_text()
DIRECT = PROJECT["dependencies"] + EXTRAS["api"] + EXTRAS["test"]


def test_the_lock_answers_every_requirement() -> None:
    assert violations(DIRECT, pins(LOCK)) == []


def test_the_development_lock_answers_every_requirement() -> None:
    assert violations(EXTRAS["dev"] + EXTRAS["docs"], pins(DEV_LOCK)) == []


def test_both_locks_name_the_same_versions() -> None:
    ours, theirs = pins(LOCK), pins(DEV_LOCK)
    assert {name: theirs[name] for name in ours.keys() & theirs.keys()} == {
        name: ours[name] for name in ours.keys() & theirs.keys()
    }


def test_the_lock_holds_exactly_what_is_needed() -> None:
    assert reachable(DIRECT) - UNPINNED == set(pins(LOCK))


def test_the_lock_installs_the_project_too() -> None:
    assert LOCK.splitlines()[-1] == "-e ."


def test_the_locks_name_no_package_index() -> None:
    assert "://" not in LOCK + DEV_LOCK


@pytest.mark.parametrize("wanted", ["django>=6", "no-such-thing"])
def test_a_lock_out_of_step_is_found(wanted: str) -> None:
    assert violations([wanted], {"django": "5.2.1"})


def test_what_a_requirement_brings_in_is_found() -> None:
    assert {"celery", "kombu", "vine"} <= reachable(["celery"])
