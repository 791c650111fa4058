"""A client written against the specification works: its Python snippet as it stands."""

from pathlib import Path
from typing import Any

from tests.e2e.cluster import running
from tests.e2e.snippets import PYTHON, at


def test_the_python_client_submits_and_reads(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        names: dict[str, Any] = {}
        exec(at(cluster.port, PYTHON), names)

        assert names["status"]["data"]["cluster_stats"]["total_devices"] >= 0
        task = cluster.ended(names["task"]["data"]["task_id"])
        assert task["result"] == {"echo": {"message": "Hello"}}
