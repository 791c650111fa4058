"""A client written against the specification works: its Python snippet, and its curl lines with a key."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.cluster import running
from tests.e2e.snippets import CURL_WITH_KEY, PYTHON, at


def test_the_python_client_and_the_curl_lines_with_a_key(tmp_path: Path) -> None:
    assert shutil.which("curl"), "this test runs curl: apt install curl"
    with running(tmp_path, "--auth", "--api-key", "your-secret-key") as cluster:
        names: dict[str, Any] = {}
        exec(at(cluster.port, PYTHON), names)

        assert names["status"]["data"]["cluster_stats"]["total_devices"] >= 0
        task = cluster.ended(names["task"]["data"]["task_id"])
        assert task["result"] == {"echo": {"message": "Hello"}}

        for line in at(cluster.port, CURL_WITH_KEY).splitlines():
            done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30)
            answer = json.loads(done.stdout)
            assert answer["status"] == "success", answer
            assert answer["data"]["heartbeat"] == {"interval": 60, "timeout": 300, "max_missed": 3}
