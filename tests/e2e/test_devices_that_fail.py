"""Devices that freeze, crash or drown in work: results are recorded once, arrive late rather than never."""

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster, running, until

LEASE_S = 2
BUSY_S = 12  # several leases of the busy device
SHARE_MB = 512


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster"), "--no-local-node") as found:
        found.api.headers["X-API-Key"] = (found.data_dir / "api-key").read_text().strip()
        yield found


@pytest.fixture
def cluster(server: Cluster) -> Iterator[Cluster]:
    """A server without devices; those that join beat each second."""
    beat(server, max_missed=LEASE_S)
    yield server
    server.end_agents()


def beat(cluster: Cluster, *, max_missed: int) -> None:
    settings = {"interval": 1, "timeout": 30, "max_missed": max_missed, "reconnect_grace": 1}
    answer = cluster.api.put("/api/v1/config/heartbeat", json=settings)
    assert answer.status_code == 200, answer.text


def status(cluster: Cluster, task: str) -> Any:
    return cluster.get(f"tasks/{task}/status")


def test_the_result_of_a_device_frozen_past_its_lease_is_evidence_and_never_the_result(
    cluster: Cluster, tmp_path: Path
) -> None:
    frozen = cluster.join("frozen")
    cluster.online("frozen")
    gate = tmp_path / "gate"
    task = cluster.submit("command", {"command": f"until [ -e '{gate}' ]; do sleep 0.05; done; echo done"})
    until(lambda: status(cluster, task)["status"] == "running", "the task to run")
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        cluster.join("other")
        gate.touch()
        recorded = cluster.ended(task)
    finally:
        os.kill(frozen.pid, signal.SIGCONT)

    def late() -> Any:
        return cluster.get(f"tasks/{task}")["attempts"][0]["late"]

    evidence = until(late, "the frozen device's result")
    after = cluster.get(f"tasks/{task}")
    first, second = after["attempts"]
    assert (first["device_id"], first["outcome"]) == ("frozen", "lost")
    assert (second["device_id"], second["outcome"], second["late"]) == ("other", "success", None)
    assert evidence["outcome"] == "success"
    assert json.loads(evidence["result"])["stdout"] == "done\n"
    same = ("status", "result", "completed_at", "assigned_device_id", "execution_time_seconds")
    assert {name: after[name] for name in same} == {name: recorded[name] for name in same}
    assert (after["status"], after["assigned_device_id"]) == ("success", "other")


def results_on(directory: Path) -> list[str]:
    """Attempts whose result lies on the device's disk, unacknowledged."""
    with closing(sqlite3.connect(directory / "agent" / "outbox.sqlite3")) as connection:
        return [row[0] for row in connection.execute("SELECT attempt FROM record WHERE mark = 'done'")]


@pytest.mark.parametrize("crashes", [False, True], ids=["agent stays", "agent is killed, too"])
@pytest.mark.parametrize("policy", ["requeue", "fail"])
def test_a_result_made_while_the_server_is_down_arrives(
    cluster: Cluster, tmp_path: Path, crashes: bool, policy: str
) -> None:
    device = f"{policy}-{crashes}"
    agent = cluster.join(device)
    cluster.online(device)
    go, ran = tmp_path / "go", tmp_path / "ran"
    work = f"echo run >> '{ran}'; while [ ! -e '{go}' ]; do sleep 0.05; done; echo done"
    task = cluster.submit("command", {"command": work}, requirements={"on_device_loss": policy})
    until(ran.exists, "the work to begin")
    until(lambda: status(cluster, task)["status"] == "running", "the server to know")

    cluster.server.kill()
    go.touch()
    (kept,) = until(lambda: results_on(cluster.directory / device), "the result on the device's disk")
    if crashes:
        agent.kill()
        agent = cluster.join(device)
    assert results_on(cluster.directory / device) == [kept]
    cluster.start("--no-local-node")

    ended = cluster.ended(task)
    assert (ended["status"], ended["result"]["stdout"]) == ("success", "done\n")
    assert [attempt["outcome"] for attempt in ended["attempts"]] == ["success"]
    until(lambda: not results_on(cluster.directory / device), "the acknowledgement")
    assert ran.read_text() == "run\n"
    assert agent.alive()


# All processors twice over, and all the memory the device may give, touched.
HOG = """
import os, sys, time
for _ in range(2 * os.cpu_count() - 1):
    if os.fork() == 0:
        break
held = bytearray(os.urandom(4096)) * (int(sys.argv[1]) * 256)
over = time.monotonic() + float(sys.argv[2])
while time.monotonic() < over:
    pass
"""


def test_a_task_that_takes_all_of_a_device_does_not_make_it_look_offline(cluster: Cluster) -> None:
    beat(cluster, max_missed=5)
    cluster.join("busy", "--max-memory-gb", str(SHARE_MB / 1024))
    cluster.online("busy")
    each = SHARE_MB // (2 * (os.cpu_count() or 1))
    hog = [sys.executable, "-c", HOG, str(each), str(BUSY_S)]
    wishes = {"min_memory_gb": SHARE_MB / 1024}
    task = cluster.submit("command", {"command": hog}, requirements=wishes)
    until(lambda: status(cluster, task)["status"] == "running", "the task to run")
    before = cluster.get("devices/busy")["total_heartbeats"]

    was_online, pings = [], []

    def ended() -> bool:
        was_online.append(cluster.get("devices/busy/status")["is_online"])
        pings.append(cluster.api.post("/api/v1/devices/busy/ping").json()["data"]["ping_successful"])
        return bool(status(cluster, task)["is_terminal"])

    until(ended, "the end of the task")
    assert all(was_online)
    assert all(pings)
    assert len(pings) > 1
    done = cluster.get(f"tasks/{task}")
    assert done["status"] == "success", done
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["success"]
    assert done["execution_time_seconds"] > BUSY_S - 1  # twice its lease: it was renewed
    assert cluster.get("devices/busy")["total_heartbeats"] - before >= BUSY_S / 2
