"""The specification's curl lines as they stand, only the port is ours."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.cluster import running, until
from tests.e2e.snippets import CURL_WITH_KEY

QUICK_START = r"""
# Check API health
curl http://localhost:8081/health
# Get cluster status
curl http://localhost:8081/api/v1/cluster/status
# List devices
curl http://localhost:8081/api/v1/devices
# Submit a task
curl -X POST http://localhost:8081/api/v1/tasks \
-H "Content-Type: application/json" \
-d '{"task_type": "echo", "payload": {"message": "Hello World"}}'
"""


def commands(text: str) -> list[str]:
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("curl")]


def run(command: str, port: int) -> Any:
    assert shutil.which("curl"), "this test runs curl: apt install curl"
    line = command.replace(":8081", f":{port}").replace("curl ", "curl --silent --show-error --fail ", 1)
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_quick_start_works_as_it_is_written(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        until(lambda: cluster.get("devices?status=online"), "the local node")
        health, status, devices, submitted = (run(line, cluster.port) for line in commands(QUICK_START))

        assert health["status"] == "healthy"
        assert set(health["components"]) == {"api", "cluster_server", "task_scheduler"}
        assert status["data"]["cluster_stats"]["online_devices"] == 1
        (device,) = devices["data"]
        assert device["status"] == "online"
        assert device["role"] == "worker"
        assert submitted["data"]["task"]["status"] == "queued"
        task = cluster.ended(submitted["data"]["task_id"])
        assert task["result"] == {"echo": {"message": "Hello World"}}


def test_a_key_opens_what_needs_one_in_either_header(tmp_path: Path) -> None:
    with running(tmp_path, "--auth", "--api-key", "your-secret-key") as cluster:
        for line in commands(CURL_WITH_KEY):
            answer = run(line, cluster.port)
            assert answer["data"]["heartbeat"] == {"interval": 60, "timeout": 300, "max_missed": 3}
