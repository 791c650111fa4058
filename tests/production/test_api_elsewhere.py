"""API and gateway apart, with one PostgreSQL: they share its rows and the secret key, and no directory."""

import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import postgres
from tests.e2e.cluster import Cluster, Process, until


class Apart(Cluster):
    """A gateway with one data directory, an API process with another."""

    def __init__(self, directory: Path, database_url: str) -> None:
        super().__init__(directory)
        self.variables = {
            "RETIRE_CLUSTER_DATABASE_URL": database_url,
            "RETIRE_CLUSTER_SECRET_KEY": "the same everywhere",
        }
        self.api_data_dir = directory / "api-data"

    def start_api(self) -> Process:
        """`retire-cluster-api` beside the gateway, but with a directory of its own."""
        where = ("--cluster-host", "127.0.0.1", "--cluster-port", str(self.gateway_port), "--no-embedded")
        own = ("--port", str(self.port), "--data-dir", str(self.api_data_dir), "--no-rate-limit")
        process = self._spawn("api", "retire-cluster-api", *own, *where)
        until(lambda: self.api.get("/health").status_code == 200, "the API's health")
        return process


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    with postgres.server() as database_url:
        found = Apart(tmp_path_factory.mktemp("apart") / "cluster", database_url)
        try:
            found.start_gateway()
            found.start_api()
            found.join("attic")
            found.online("attic")
            yield found
        finally:
            found.stop()


def key(directory: Path) -> str:
    return (directory / "api-key").read_text().strip()


def test_the_api_shows_the_gateway_s_devices_and_runs_tasks_on_them(cluster: Apart) -> None:
    assert [row["device_id"] for row in cluster.get("devices")] == ["attic"]
    task_id = cluster.submit("echo", {"n": 1})
    assert cluster.ended(task_id)["status"] == "success"
    assert cluster.get(f"tasks/{task_id}/result")["result_data"] == {"echo": {"n": 1}}
    health = cluster.api.get("/health").json()
    assert health["services"]["database"]["engine"] == "postgresql"
    assert set(health["components"].values()) == {"healthy"}


def test_each_side_has_an_admin_key_and_both_keys_open_both(cluster: Apart) -> None:
    keys = [key(cluster.data_dir), key(cluster.api_data_dir)]
    assert len(set(keys)) == 2
    for port in (cluster.port, cluster.gateway_port):
        for one in keys:
            answer = httpx.get(
                f"http://127.0.0.1:{port}/api/v1/config", headers={"X-API-Key": one}, timeout=60
            )
            assert answer.status_code == 200, (port, answer.text)


def test_the_api_s_directory_holds_its_key_and_no_cluster_of_its_own(cluster: Apart) -> None:
    files = {file.name for file in cluster.api_data_dir.iterdir()}
    assert "api-key" in files
    assert not {name for name in files if "sqlite" in name or name in ("join-token", "secret-key")}, files
    assert stat.S_IMODE((cluster.api_data_dir / "api-key").stat().st_mode) == 0o600


def test_the_api_says_where_the_gateway_is_and_leaves_joining_to_it(cluster: Apart) -> None:
    said = until(lambda: found if "is up" in (found := cluster.processes[1].said()) else "", "the greeting")
    assert f"Gateway     127.0.0.1:{cluster.gateway_port}, in another process" in said
    assert "Join " not in said
    assert "SQLite" not in said
