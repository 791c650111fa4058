"""`manage.py torture` as a user runs it: it proves something, and keeps away from a real cluster."""

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.e2e.cluster import clean_environment, until

ROOT = Path(__file__).parents[2]

# A whole cluster starts, and a killed server may let leases last half a minute.
pytestmark = pytest.mark.timeout(400)


def torture(tmp_path: Path, *flags: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | {"TMPDIR": str(tmp_path)}
    environment |= {f"RETIRE_CLUSTER_{name}": value for name, value in settings.items()}
    command = [sys.executable, "manage.py", "torture", *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_few_episodes_pass_and_a_real_cluster_is_not_touched(tmp_path: Path) -> None:
    real, database = tmp_path / "real", tmp_path / "real.sqlite3"
    done = torture(
        tmp_path,
        *("--episodes", "3", "--agents", "6", "--seed", "5"),
        DATA_DIR=str(real),
        DATABASE_URL=f"sqlite:///{database}",
        REDIS_URL="redis://127.0.0.1:1",
        API_PORT="1",
        JOIN_TOKEN="of-the-real-cluster",
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^seed +5$", done.stdout, re.MULTILINE)
    assert re.search(r"^episodes +3 in ", done.stdout, re.MULTILINE)
    assert re.search(r"^violations +0 ", done.stdout, re.MULTILINE)
    assert re.search(r"^duplicate recordings +0 ", done.stdout, re.MULTILINE)
    assert not database.exists()
    assert [file.name for file in real.iterdir()] == ["secret-key"]  # every command of Django's makes it
    assert list(tmp_path.glob("retire-cluster-torture-*")) == []


def test_the_end_of_its_time_ends_it(tmp_path: Path) -> None:
    done = torture(tmp_path, "--seconds", "0.1", "--agents", "2", "--keep", DATA_DIR=str(tmp_path / "real"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^episodes +1 in ", done.stdout, re.MULTILINE)
    (kept,) = tmp_path.glob("retire-cluster-torture-*")
    assert (kept / "server" / "retire-cluster.sqlite3").exists()


@pytest.mark.parametrize(
    ("flags", "processes"),
    [
        (("--episodes", "50"), 5),  # a server and four agents
        (("--shape", "production"), 8),  # amid the start: PostgreSQL, Redis, gateways, API, Celery
    ],
)
def test_ended_by_a_signal_it_leaves_no_process_behind(
    place: Path, flags: tuple[str, ...], processes: int
) -> None:
    environment = clean_environment() | {
        "TMPDIR": str(place),
        "RETIRE_CLUSTER_DATA_DIR": str(place / "real"),
    }
    command = [sys.executable, "manage.py", "torture", *flags, "--agents", "4"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as running:
        whole = psutil.Process(running.pid)
        until(lambda: len(whole.children()) >= processes, "its processes")
        children = whole.children(recursive=True)
        running.terminate()
        assert "interrupted; logs and databases:" in running.communicate(timeout=60)[1]
    assert running.returncode == 1
    until(lambda: not any(child.is_running() for child in children), "the end of all its processes")
