"""A torture that cannot fail proves nothing: on a cluster whose code breaks promises it names every one of them."""

import os
import re
import subprocess
import sys
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


@pytest.mark.timeout(900)
def test_every_broken_promise_is_named_and_the_exit_code_says_so(tmp_path: Path) -> None:
    environment = clean_environment() | {
        "RETIRE_CLUSTER_DATA_DIR": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "SABOTAGE": ",".join(BROKEN),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(SABOTEUR)]),
    }
    command = [sys.executable, "manage.py", "torture", "--episodes", "48", "--agents", "32", "--seed", "1"]

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    named = set(re.findall(r"^VIOLATION of ([^:]+?) in episode", done.stdout, re.MULTILINE))
    assert done.returncode == 1, done.stdout + done.stderr
    assert set(BROKEN.values()) <= named, done.stdout
    (kept,) = tmp_path.glob("retire-cluster-torture-*")
    assert f"logs and databases: {kept}" in done.stdout
    assert (kept / "server.log").exists()
