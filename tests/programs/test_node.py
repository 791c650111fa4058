"""The specification's JavaScript client, run by Node."""

import json
import shutil
import subprocess
from pathlib import Path

from tests.e2e.cluster import running
from tests.e2e.snippets import JAVASCRIPT, at


def test_the_javascript_client_submits_and_reads(tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node, "this test runs Node: apt install nodejs"
    with running(tmp_path) as cluster:
        script = tmp_path / "client.mjs"
        script.write_text(at(cluster.port, JAVASCRIPT) + "console.log(JSON.stringify({status, task}));\n")
        done = subprocess.run([node, script], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)

        assert said["status"]["status"] == "success"
        task = cluster.ended(said["task"]["data"]["task_id"])
        assert task["result"] == {"echo": {"message": "Hello"}}
