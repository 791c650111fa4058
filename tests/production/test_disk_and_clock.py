"""SQLite's server on a disk that takes nothing any more, and under a clock that jumps by years.

The kernel refuses the writes: RLIMIT_FSIZE of a running process, lowered and raised again from outside, lets none
of its files grow or change (EFBIG), its log included. That needs no rights and no file system of one's own. What it
does not show is SQLITE_FULL for ENOSPC, which SQLite tells apart; tests/unit/test_disk.py has that.

The clock is libfaketime's (apt install libfaketime). It moves time of day only; monotonic time is the kernel's. Its
clock_nanosleep refuses what Python's time.sleep asks for (0.9.10), so the server sleeps by select.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster, Process, running, until

LIBRARIES = "*/faketime/libfaketimeMT.so.1"
SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"


@contextmanager
def full_disk(process: Process) -> Iterator[None]:
    """The process can write nothing into files."""
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


def device(cluster: Cluster) -> Any:
    return cluster.get("devices/attic/status")


def task(cluster: Cluster, task_id: str) -> Any:
    return cluster.get(f"tasks/{task_id}")


# --- the disk -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server on SQLite, and an agent in a process of its own."""
    with running(tmp_path_factory.mktemp("disk"), "--no-local-node") as found:
        found.api.headers["X-API-Key"] = (found.data_dir / "api-key").read_text().strip()
        found.join("attic")
        found.online("attic")
        yield found


def test_a_server_whose_disk_is_full_says_so_and_works_again_once_there_is_room(cluster: Cluster) -> None:
    server = cluster.processes[0]
    runs, gate = cluster.directory / "runs", cluster.directory / "gate"
    work = {"command": f"echo run >> {runs}; until [ -e {gate} ]; do sleep 0.05; done"}
    held = cluster.submit("command", work)
    until(lambda: task(cluster, held)["status"] == "running", "the task to run")

    with full_disk(server):
        for _ in range(3):
            answer = cluster.api.post("/api/v1/tasks", json={"task_type": "echo", "payload": {}})
            assert (answer.status_code, answer.json()["error_code"]) == (503, "SERVICE_UNAVAILABLE")
            assert "disk is full" in answer.json()["message"]
            assert "make room" in answer.json()["message"]
            assert "Retry-After" in answer.headers
        assert cluster.api.get("/api/v1/tasks").status_code == 200, "what is there can be read"
        until(lambda: cluster.api.get("/health").status_code == 503, "health to know")
        told = cluster.api.get("/health").json()
        assert told["components"]["api"] == "unhealthy"
        assert "disk is full" in told["services"]["disk"]["reason"]
        gate.touch()
        until(
            lambda: "disk is full" in _gateway(cluster).get("reason", ""),
            "the gateway to try to record the end",
        )
        assert task(cluster, held)["status"] == "running", "not recorded, so not told"

    until(lambda: cluster.api.get("/health").status_code == 200, "all to be well again")
    ended = cluster.ended(held)
    assert (ended["status"], len(ended["attempts"])) == ("success", 1)
    assert runs.read_text() == "run\n"
    assert cluster.ended(cluster.submit())["status"] == "success"
    assert server.alive()


def _gateway(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.api.get("/health").json()["services"]["gateway"]
    return found


def test_an_agent_whose_disk_is_full_takes_no_task_until_there_is_room(cluster: Cluster) -> None:
    agent = cluster.processes[1]
    with full_disk(agent):
        first = cluster.submit()
        until(lambda: "cannot write to its disk" in device(cluster)["status_reason"], "the device to say why")
        second = cluster.submit()
        until(lambda: task(cluster, first)["status"] == "queued", "the task to come back")
        waits = cluster.get(f"tasks/{second}/status")
        assert waits["status"] == "queued"
        assert "cannot write to its disk" in waits["queue_reason"]

    assert [cluster.ended(task_id)["status"] for task_id in (first, second)] == ["success", "success"]
    assert device(cluster)["status_reason"] == ""
    assert agent.alive()


# --- the clock ------------------------------------------------------------------------------------------------


class Clock:
    """The time of day of the processes started with `variables`."""

    def __init__(self, directory: Path) -> None:
        library = next(Path("/usr/lib").glob(LIBRARIES), None)
        assert library, "apt install libfaketime"
        self._file = directory / "clock"
        (directory / "sitecustomize.py").write_text(SLEEP)
        self.set("+0d")
        self.variables = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": os.pathsep.join([str(directory), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }

    def set(self, offset: str) -> None:
        """In one step: a reader must not see an empty file."""
        new = self._file.with_suffix(".new")
        new.write_text(offset)
        new.replace(self._file)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def jumping(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Iterator[Cluster]:
    """A server whose clock can be set; its agent has the true one."""
    cluster = Cluster(tmp_path_factory.mktemp("jumping"))
    try:
        cluster.variables = clock.variables
        cluster.start("--no-local-node")
        cluster.variables = {}
        cluster.api.headers["X-API-Key"] = (cluster.data_dir / "api-key").read_text().strip()
        cluster.join("attic", "--slots", "4")
        cluster.online("attic")
        yield cluster
    finally:
        cluster.stop()


def year(cluster: Cluster) -> int:
    """The server's."""
    return datetime.fromisoformat(cluster.api.get("/health").json()["timestamp"]).year


def test_a_clock_ten_years_ahead_deletes_no_history(jumping: Cluster, clock: Clock) -> None:
    old = jumping.submit()
    jumping.ended(old)
    clock.set("+4018d")  # Celery's beat finds that the hourly clean-up is due, and all history too old
    log = jumping.directory / "server.log"
    until(lambda: "nothing old is deleted this time" in log.read_text(), "the clean-up to be due")
    assert task(jumping, old)["status"] == "success"
    clock.set("+0d")


@pytest.mark.parametrize(("offset", "years"), [("+3652d", 10), ("-3652d", -10), ("+0d", 0)])
def test_a_jump_of_the_server_s_clock_loses_nothing_and_time_limits_hold(
    jumping: Cluster, clock: Clock, offset: str, years: int
) -> None:
    let_go = jumping.directory / f"let-go-{years}"
    waiting = {"command": f"while [ ! -e {let_go} ]; do sleep 0.1; done"}
    long = [jumping.submit("command", waiting) for _ in range(2)]
    for task_id in long:
        until(lambda task_id=task_id: has_begun(jumping, task_id), "the long ones to begin")  # type: ignore[misc]
    short = jumping.submit("command", {"command": "sleep 600"}, requirements={"timeout_seconds": 5})
    until(lambda: has_begun(jumping, short), "the short one to begin")
    clock.set(offset)
    this_year = datetime.now(UTC).year + years
    until(lambda: year(jumping) == this_year, "the server to live in another year")

    after = jumping.submit()  # placed under the new clock
    assert jumping.ended(after)["status"] == "success"
    jumping.ended(short)
    let_go.touch()
    ended = [jumping.ended(task_id) for task_id in (short, *long)]
    assert [found["status"] for found in ended] == ["timeout", "success", "success"]
    assert [len(found["attempts"]) for found in ended] == [1, 1, 1], "nothing was requeued"
    years_of_end = [datetime.fromisoformat(found["completed_at"]).year for found in ended]
    assert years_of_end == [this_year] * 3, "the clock jumped while they ran"
    ran_s = [found["execution_time_seconds"] for found in ended]
    assert 5 <= ran_s[0] < 60, "its own limit ended it"
    assert all(ran_s[0] <= seconds < 300 for seconds in ran_s[1:]), "they began before it and ended after it"
    assert device(jumping)["is_online"]
    counts = jumping.get("tasks/statistics")["queue_stats"]["by_status"]
    assert (counts["failed"], counts["cancelled"]) == (0, 0)


def has_begun(cluster: Cluster, task_id: str) -> bool:
    """Also of one that has ended since: it may be over before somebody looks."""
    return task(cluster, task_id)["status"] not in ("pending", "queued", "assigned")
