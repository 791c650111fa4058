"""The whole product from outside: commands, HTTP, kill -9."""

import stat
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import BIN, Cluster, free_port, join_line, running, token_in, until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster")) as found:
        yield found


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a command that is not to start."""
    done = subprocess.run([BIN / arguments[0], *arguments[1:]], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def test_the_first_result_comes_with_the_start(tmp_path: Path) -> None:
    with running(tmp_path, "--hello", first_start=True) as cluster:
        (server,) = cluster.processes
        until(lambda: "Hello World" in server.said(), "the first result")
        assert '{"echo": {"message": "Hello World"}}' in server.said()
        assert server.interrupt() == 0


def test_in_a_directory_open_to_others_the_database_is_not(tmp_path: Path) -> None:
    (tmp_path / "server-data-1").mkdir(mode=0o755)
    with running(tmp_path, first_start=True) as cluster:
        files = [*cluster.data_dir.glob("retire-cluster.sqlite3*")]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(cluster.data_dir.stat().st_mode) == 0o755


def test_a_second_device_takes_over_from_one_that_died(cluster: Cluster, tmp_path: Path) -> None:
    token = token_in(join_line(cluster.server.said()))
    second = cluster.join("second", "--tags", "spare", token=token)
    cluster.online("second")
    gate = tmp_path / "gate"
    work = {"command": f"until [ -e {gate} ]; do sleep 0.05; done"}
    task = cluster.submit("command", work, requirements={"required_tags": ["spare"]})
    until(lambda: cluster.get(f"tasks/{task}/status")["status"] == "running", "the task to run")
    second.kill()
    until(lambda: cluster.get("devices/second")["status"] == "offline", "the device to be offline")
    assert cluster.get("devices/second")["status_reason"] == "the connection was lost"
    gate.touch()
    cluster.join("third", "--tags", "spare")
    details = cluster.ended(task)
    assert (details["status"], details["assigned_device_id"]) == ("success", "third")


def test_nothing_is_lost_when_the_server_is_killed(cluster: Cluster) -> None:
    sleeping = [cluster.submit("sleep", {"duration": 2}) for _ in range(2)]
    queued = [cluster.submit("sleep", {"duration": 0.01}) for _ in range(100)]
    cluster.server.kill()
    cluster.start()
    outcomes = Counter(cluster.ended(task)["status"] for task in [*sleeping, *queued])
    assert outcomes == {"success": 102}
    for task in queued:
        attempts = cluster.get(f"tasks/{task}")["attempts"]
        assert [item["outcome"] for item in attempts].count("success") == 1


def test_an_unsatisfiable_urgent_task_says_why_and_holds_nobody_up(cluster: Cluster) -> None:
    stuck = cluster.submit(priority="urgent", requirements={"min_cpu_cores": 4096})
    assert cluster.ended(cluster.submit())["status"] == "success"
    status = cluster.get(f"tasks/{stuck}/status")
    assert status["status"] == "queued"
    assert "4096 cores" in status["queue_reason"]


def test_a_wrong_token_ends_the_agent_with_its_own_code(cluster: Cluster) -> None:
    agent = cluster.join("stranger", token="rcj1_0000000000000000_" + "0" * 64)
    assert agent.wait() == 3
    assert "unknown here" in agent.said()


def test_agents_join_over_pinned_tls_off_loopback(tmp_path: Path) -> None:
    with running(tmp_path, "--cluster-bind", "0.0.0.0", "--no-local-node") as cluster:
        token = (cluster.data_dir / "join-token").read_text().strip()
        assert len(token.split("_")[-1]) == 64
        cluster.join("pinned")
        cluster.online("pinned")
        wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
        stranger = cluster.join("mistrusting", token=wrong)
        until(lambda: "certificate" in stranger.said(), "the agent to refuse the certificate")
        assert {item["device_id"] for item in cluster.get("devices")} == {"pinned"}


def test_what_cannot_start_says_so_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    taken, other = str(cluster.port), str(tmp_path / "other")
    for arguments, word in [
        (("retire-cluster-api", "--bogus"), "--bogus"),
        (("retire-cluster-api", "--port", "70000"), "--port"),
        (("retire-cluster-api", "--port", taken, "--data-dir", other), f"port {taken}"),
        (("retire-cluster-main", "--port", str(free_port()), "--data-dir", str(file)), str(file)),
    ]:
        code, said = run(*arguments)
        assert (code, len(said.strip().splitlines())) == (2, 1), said
        assert word in said
