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


def torture_of_broken_code(
    place: Path, broken: Mapping[str, str], *flags: str
) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | {
        "RETIRE_CLUSTER_DATA_DIR": str(place),
        "TMPDIR": str(place),
        "SABOTAGE": ",".join(broken),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(SABOTEUR)]),
    }
    command = [sys.executable, "manage.py", "torture", "--seed", "1", *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def assert_all_are_named(done: subprocess.CompletedProcess[str], broken: Mapping[str, str]) -> None:
    named = set(re.findall(r"^VIOLATION of ([^:]+?) in episode", done.stdout, re.MULTILINE))
    assert done.returncode == 1, done.stdout + done.stderr
    assert set(broken.values()) <= named, done.stdout


@pytest.mark.timeout(900)
def test_every_broken_promise_is_named_and_the_exit_code_says_so(place: Path) -> None:
    done = torture_of_broken_code(place, BROKEN, "--episodes", "48", "--agents", "32")
    assert_all_are_named(done, BROKEN)
    (kept,) = place.glob("retire-cluster-torture-*")
    assert f"logs and databases: {kept}" in done.stdout
    assert (kept / "server.log").exists()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("shape", "log"), [("embedded", "server.log"), ("production", "gateway-2.log")])
def test_a_chaos_run_names_what_is_broken_in_its_shape(place: Path, shape: str, log: str) -> None:
    done = torture_of_broken_code(place, BROKEN_IN_THE_CROWD, "--shape", shape, "--tasks", "40")
    assert_all_are_named(done, BROKEN_IN_THE_CROWD)
    (kept,) = place.glob("retire-cluster-chaos-*")
    assert f"logs and databases: {kept}" in done.stdout
    assert (kept / log).exists()
