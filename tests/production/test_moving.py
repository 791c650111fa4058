"""The pages about moving to PostgreSQL and about going back after an upgrade: their commands, on real databases."""

import json
import re
import subprocess
from pathlib import Path

import psycopg

from tests import postgres
from tests.documented import DOCS, blocks
from tests.e2e.cluster import BIN, Cluster, clean_environment, running

MOVE = DOCS / "howto" / "sqlite-to-postgresql.md"
UPGRADE = DOCS / "howto" / "upgrade.md"


def shell(text: str, cluster: Cluster, directory: Path) -> str:
    """Run a page's commands as the server's account would; returns what they print."""
    environment = {
        **clean_environment(),
        "RETIRE_CLUSTER_DATA_DIR": str(cluster.data_dir),
        "PATH": f"{BIN}:/usr/bin:/bin",
    }
    done = subprocess.run(
        ["bash", "-ec", text], env=environment, cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commands(page: Path, word: str) -> str:
    """The one example of a page that has this word."""
    (found,) = [block.text for block in blocks(page) if block.language == "bash" and word in block.text]
    return found


def stopped_cluster_with_a_task(directory: Path) -> tuple[Cluster, str]:
    with running(directory) as cluster:
        task = cluster.ended(cluster.submit("echo", {"n": 1}))
        assert task["status"] == "success"
        return cluster, str(task["task_id"])


def test_the_page_moves_everything_to_postgresql(tmp_path: Path) -> None:
    cluster, task_id = stopped_cluster_with_a_task(tmp_path / "cluster")
    (make,) = [block.text for block in blocks(MOVE) if block.language == "sql"]
    with postgres.server() as url:
        with psycopg.connect(url, autocommit=True) as administrator:
            for statement in filter(str.strip, make.split(";")):
                administrator.execute(statement.encode())
        place = url.partition("@")[2].partition("/")[0]  # the directory of its socket, quoted
        move = commands(MOVE, "restore")
        assert "@localhost/" in move
        shell(commands(MOVE, "backup"), cluster, tmp_path)
        printed = shell(move.replace("@localhost/", f"@{place}/"), cluster, tmp_path)

        assert re.search(r"restored \d+ rows, 1 of them tasks", printed)
        with psycopg.connect(f"postgresql://cluster:choose-one@{place}/cluster") as moved:
            rows = moved.execute("SELECT id::text, status FROM tasks_task").fetchall()
        assert rows == [(task_id, "success")]


def test_the_page_about_upgrades_leads_back(tmp_path: Path) -> None:
    cluster, task_id = stopped_cluster_with_a_task(tmp_path / "cluster")
    shell(commands(UPGRADE, "backup"), cluster, tmp_path)
    after = Cluster(tmp_path / "cluster")
    try:
        after.start("--no-local-node")
        later = after.submit("echo", {"n": 2})
    finally:
        after.stop()
    shell(commands(UPGRADE, "restore"), cluster, tmp_path)
    shell(commands(UPGRADE, "retire-cluster-manage migrate"), cluster, tmp_path)

    again = Cluster(tmp_path / "cluster")
    try:
        again.start("--no-local-node")
        ids = [task["task_id"] for task in again.get("tasks")]
    finally:
        again.stop()
    assert ids == [task_id], json.dumps({"later": later})
