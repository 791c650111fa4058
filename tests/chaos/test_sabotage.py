"""A torture that cannot fail proves nothing: on a cluster whose code breaks promises it names every one of them."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.cluster import clean_environment

ROOT = Path(__file__).parents[2]
SABOTEUR = Path(__file__).parent / "saboteur"
# What is broken -> the promise by which that must show.
BROKEN = {
    "more_retries_than_allowed": "recorded twice",
    "keys_are_forgotten": "I11",
    "cancels_are_confirmed_unseen": "I6",
    "time_limits_are_ignored": "I7",
    "capacity_is_ignored": "I8",
}


# The same for a chaos run, which sees less of each task and must see at least this.
BROKEN_IN_THE_CROWD = {
    "answers_leave_before_the_commit": "I1",
    "keys_are_forgotten": "I11",
    "ends_are_recorded_again": "recorded twice",
}


SEEDS = (
    1,
    2,
    3,
)  # whether two tasks are at a device at once, say, is chance: other runs where one names too few


def torture_of_broken_code(place: Path, broken: Mapping[str, str], kind: str, *flags: str) -> Path:
    """Torture until all that is broken is named; the directory that the last run kept."""
    environment = clean_environment() | {
        "RETIRE_CLUSTER_DATA_DIR": str(place),
        "TMPDIR": str(place),
        "SABOTAGE": ",".join(broken),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(SABOTEUR)]),
    }
    named: set[str] = set()
    before: set[Path] = set()
    for seed in SEEDS:
        command = [sys.executable, "manage.py", "torture", "--seed", str(seed), *flags]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stdout + done.stderr
        named |= set(re.findall(r"^VIOLATION of ([^:]+?) in episode", done.stdout, re.MULTILINE))
        (kept,) = set(place.glob(f"retire-cluster-{kind}-*")) - before
        assert f"logs and databases: {kept}" in done.stdout
        before.add(kept)
        if set(broken.values()) <= named:
            break
    assert set(broken.values()) - named == set(), done.stdout
    return kept


@pytest.mark.timeout(1200)
def test_every_broken_promise_is_named_and_the_exit_code_says_so(place: Path) -> None:
    kept = torture_of_broken_code(place, BROKEN, "torture", "--episodes", "48", "--agents", "32")
    assert (kept / "server.log").exists()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("shape", "log"), [("embedded", "server.log"), ("production", "gateway-2.log")])
def test_a_chaos_run_names_what_is_broken_in_its_shape(place: Path, shape: str, log: str) -> None:
    kept = torture_of_broken_code(place, BROKEN_IN_THE_CROWD, "chaos", "--shape", shape, "--tasks", "40")
    assert (kept / log).exists()
