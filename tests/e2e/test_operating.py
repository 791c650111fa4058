"""What operators do with devices and settings, with real agents on real connections."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from devices.pings import ANSWER_WITHIN_S
from tests.e2e.cluster import Cluster, running, until

REVOKED = 4  # the agent's exit code


@pytest.fixture(params=["one process", "two processes"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """API and gateway in one process, and as two that share the database."""
    cluster = Cluster(tmp_path / "cluster")
    try:
        if request.param == "two processes":
            cluster.first_start = True
            cluster.start_gateway("--insecure-plain")
        cluster.start("--no-local-node")
        cluster.api.headers["X-API-Key"] = (cluster.data_dir / "api-key").read_text().strip()
        yield cluster
    finally:
        cluster.stop()


def call(cluster: Cluster, method: str, path: str, body: Any = None) -> Any:
    answer = cluster.api.request(method, f"/api/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def heartbeats(cluster: Cluster, device_id: str) -> int:
    """As the gateway's own process counts them: it writes them down only now and then."""
    answer = httpx.get(f"http://127.0.0.1:{cluster.gateway_port}/api/v1/devices/{device_id}")
    return int(answer.json()["data"]["total_heartbeats"])


def test_devices_are_pinged_retuned_kept_out_drained_and_removed(cluster: Cluster) -> None:
    agent = cluster.join("alice")
    cluster.online("alice")

    ping = call(cluster, "POST", "devices/alice/ping")
    assert ping["ping_successful"], ping
    assert 0 < ping["response_time_ms"] < 1000 * ANSWER_WITHIN_S
    assert cluster.get("devices/alice/status")["response_time_ms"] == ping["response_time_ms"]

    # An agent that beats each minute would take a minute to show that it heard of the change.
    call(cluster, "PUT", "config/heartbeat", {"interval": 1, "timeout": 10})
    until(lambda: heartbeats(cluster, "alice") >= 2, "faster heartbeats")

    call(cluster, "PUT", "config/server", {"max_connections": 1})
    late = cluster.join("bob")
    until(lambda: "server.max_connections" in late.said(), "bob to be told that there is no room")
    assert [row["device_id"] for row in cluster.get("devices?status=online")] == ["alice"]
    late.interrupt()

    task = cluster.submit("sleep", {"duration": 600})
    until(lambda: cluster.get(f"tasks/{task}/status")["status"] == "running", "the task to run")
    call(cluster, "POST", "devices/alice/drain", {"reason": "tired", "deadline_seconds": 0})
    until(lambda: cluster.get(f"tasks/{task}/status")["status"] == "queued", "the task to be requeued")
    until(lambda: cluster.get("devices/alice")["status_reason"] == "drained: tired", "the drain to end")
    call(cluster, "POST", "devices/alice/uncordon")
    until(lambda: cluster.get(f"tasks/{task}/status")["status"] == "running", "the task to run again")

    removal = call(cluster, "DELETE", "devices/alice")
    assert removal["was_online"]
    assert cluster.get(f"tasks/{task}/status")["status"] == "queued"
    assert agent.wait() == REVOKED
    assert "--rejoin" in agent.said()
    assert "pending" not in agent.said()  # what asyncio says of work that nobody ended


def test_a_removed_device_comes_back_only_when_asked_to(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start("--no-local-node")
        cluster.api.headers["X-API-Key"] = (cluster.data_dir / "api-key").read_text().strip()
        agent = cluster.join("alice")
        cluster.online("alice")
        call(cluster, "DELETE", "devices/alice")
        assert agent.wait() == REVOKED

        assert cluster.join("alice").wait() == REVOKED

        back = cluster.join("alice", "--rejoin")
        cluster.online("alice")
        assert back.alive()
    except subprocess.TimeoutExpired as error:
        raise AssertionError("\n".join(process.said() for process in cluster.processes)) from error
    finally:
        cluster.stop()


def test_a_server_goes_on_without_its_local_node_once_that_is_removed(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        cluster.api.headers["X-API-Key"] = (cluster.data_dir / "api-key").read_text().strip()
        [node] = until(lambda: cluster.get("devices?status=online"), "the local node")
        [server] = cluster.processes

        assert call(cluster, "DELETE", f"devices/{node['device_id']}")["was_online"]
        until(lambda: "goes on without its local node" in server.said(), "the server to say so")
        cluster.join("alice")
        cluster.online("alice")
        assert cluster.ended(cluster.submit())["status"] == "success"
        assert server.interrupt() == 0

        again = cluster.start()
        cluster.online("alice")
        until(lambda: again.said().count("goes on without its local node") == 2, "it to say so again")
        assert [row["device_id"] for row in cluster.get("devices")] == ["alice"]
        assert again.alive()
