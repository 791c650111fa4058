"""The plain Django way: migrate, createsuperuser, runserver, and the gateway beside it on one SQLite file."""

import json
import subprocess
import sys
from pathlib import Path

from websockets.sync.client import connect

from tests.e2e.cluster import BIN, Cluster, Process, clean_environment, until

ROOT = Path(__file__).resolve().parents[2]


def manage(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "manage.py", *arguments],
        env=environment(directory),
        capture_output=True,
        text=True,
        timeout=60,
    )


def environment(directory: Path) -> dict[str, str]:
    return {
        **clean_environment(),
        "RETIRE_CLUSTER_DATA_DIR": str(directory),
        "DJANGO_SUPERUSER_PASSWORD": "correct horse battery",
    }


def test_runserver_and_the_gateway_share_one_file(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        assert manage(cluster.data_dir, "migrate").returncode == 0
        made = manage(
            cluster.data_dir,
            "createsuperuser",
            "--noinput",
            "--username",
            "ann",
            "--email",
            "ann@example.org",
        )
        assert made.returncode == 0, made.stderr
        cluster.processes.append(
            Process(
                tmp_path / "runserver.log",
                sys.executable,
                str(ROOT / "manage.py"),
                "runserver",
                "--noreload",
                str(cluster.port),
                # 8080 by default, which may be taken where the tests run.
                environment={
                    **environment(cluster.data_dir),
                    "RETIRE_CLUSTER_CLUSTER_PORT": str(cluster.gateway_port),
                },
            )
        )
        cluster.start_gateway()
        until(lambda: cluster.api.get("/health").status_code == 200, "the health of both")
        cluster.join("helper")
        cluster.online("helper")

        task = cluster.submit("echo", {"message": "across two processes"})
        assert cluster.ended(task)["result"] == {"echo": {"message": "across two processes"}}
        answer = cluster.api.post("/api/v1/tasks?wait=10", json={"task_type": "echo", "payload": {}})
        assert answer.json()["data"]["task"]["status"] == "success"
        assert "Welcome back to" in cluster.api.get("/admin/login/").text
        with connect(f"ws://127.0.0.1:{cluster.port}/ws?topics=task", proxy=None) as live:
            assert json.loads(live.recv(timeout=20))["type"] == "snapshot"
            task = cluster.submit("echo", {"message": "told by the gateway's process"})
            told = [json.loads(live.recv(timeout=20))]
            while told[-1]["type"] != "task.finished":
                told.append(json.loads(live.recv(timeout=20)))
            assert {event["data"].get("task_id", task) for event in told} == {task}
    finally:
        cluster.stop()


def test_a_celery_worker_without_a_broker_says_what_to_set(tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "celery", "-A", "retire_cluster", "worker"],
        env=environment(tmp_path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "RETIRE_CLUSTER_BROKER_URL" in line
