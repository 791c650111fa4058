"""Every task type to each of its ends, through real processes; afterwards nothing of it runs (`ps` says so)."""

import json
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from retire_cluster.agent.execution.processes import MARK
from tests.e2e.cluster import Cluster, free_port, running, until

HANDLERS = """
import subprocess, time
from retire_cluster.agent import handler

@handler("custom")
def custom(payload, ctx):
    if payload.get("fail"):
        raise ValueError("asked to")
    if payload.get("hang"):
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        while True:
            time.sleep(0.01)
    return payload
"""
# Hangs with a child that resists: the worst a cancel and a time limit can meet.
STUBBORN = "trap '' TERM; setsid sh -c \"trap '' TERM; sleep 600 & sleep 601\" & echo begun; wait; sleep 602"
ENDLESS = "sum(1 for i in iter(int, 1))"


class _Slow(BaseHTTPRequestHandler):
    """Answers /ok at once, and anything else never."""

    def do_GET(self) -> None:
        if self.path != "/ok":
            self.server.released.wait(60)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    server.daemon_threads = True
    server.released = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.released.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("types")
    (directory / "own_types.py").write_text(HANDLERS)
    with running(directory / "cluster", "--no-local-node") as found:
        found.api.headers["X-API-Key"] = (found.data_dir / "api-key").read_text().strip()
        handlers = ("--handlers", str(directory / "own_types.py"))
        found.join("able", "--allow-private-http", "--slots", "8", *handlers)
        found.online("able")
        yield found


def left_of(cluster: Cluster, task_id: str) -> list[str]:
    """Processes of the task's attempts, by their environment, as ps shows them."""
    shown = subprocess.run(
        ["ps", "eaxww", "-o", "pid=,command="], capture_output=True, text=True, check=True
    ).stdout
    marks = [f"{MARK}={attempt}" for attempt in _attempts(cluster, task_id)]
    assert marks, "an attempt was made"
    return [line for line in shown.splitlines() if any(mark in line for mark in marks)]


def _attempts(cluster: Cluster, task_id: str) -> list[str]:
    """Ids of the attempts, from the database: the API does not show lease tokens."""
    with closing(sqlite3.connect(cluster.data_dir / "retire-cluster.sqlite3")) as database:
        rows = database.execute(
            "SELECT id FROM tasks_attempt WHERE task_id = ?", (task_id.replace("-", ""),)
        ).fetchall()
    return [row[0].replace("-", "") for row in rows]


def fill(payload: dict[str, Any], site: str) -> dict[str, Any]:
    text = json.dumps(payload).replace("SITE", site).replace("CLOSED", f"http://127.0.0.1:{free_port()}")
    found: dict[str, Any] = json.loads(text)
    return found


SUCCESS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "echo": ({"a": [1]}, {"echo": {"a": [1]}}),
    "sleep": ({"duration": 0.1}, {"slept_for": 0.1}),
    "system_info": ({}, {}),
    "python_eval": (
        {"expression": "sum(i*i for i in range(10))"},
        {"result": 285, "expression": "sum(i*i for i in range(10))"},
    ),
    "http_request": ({"url": "SITE/ok", "allow_private": True}, {"status_code": 200, "truncated": False}),
    "command": ({"command": "echo hello"}, {"return_code": 0, "stdout": "hello\n", "truncated": False}),
    "custom": ({"x": 1}, {"x": 1}),
}
FAILURE: dict[str, tuple[dict[str, Any], str]] = {
    "python_eval": ({"expression": "1 / 0"}, "ZeroDivisionError: division by zero"),
    "http_request": ({"url": "CLOSED/", "allow_private": True}, "refused"),
    "command": ({"command": "echo oh >&2; exit 7"}, "the command ended with code 7: oh"),
    "custom": ({"fail": True}, "ValueError: asked to"),
}
HANGING: dict[str, dict[str, Any]] = {
    "sleep": {"duration": 600},
    "python_eval": {"expression": ENDLESS},
    "http_request": {"url": "SITE/never", "allow_private": True, "timeout": 600},
    "command": {"command": STUBBORN},
    "custom": {"hang": True},
}


@pytest.mark.parametrize("task_type", SUCCESS)
def test_success(cluster: Cluster, site: str, task_type: str) -> None:
    payload, expected = SUCCESS[task_type]
    task_id = cluster.submit(task_type, fill(payload, site))
    ended = cluster.ended(task_id)
    assert ended["status"] == "success", ended
    assert expected.items() <= ended["result"].items()
    assert left_of(cluster, task_id) == []


@pytest.mark.parametrize("task_type", FAILURE)
def test_failure(cluster: Cluster, site: str, task_type: str) -> None:
    payload, words = FAILURE[task_type]
    task_id = cluster.submit(task_type, fill(payload, site))
    ended = cluster.ended(task_id)
    assert ended["status"] == "failed"
    assert words in ended["error_history"][-1]["error_message"]
    assert left_of(cluster, task_id) == []


@pytest.mark.parametrize("task_type", HANGING)
def test_timeout(cluster: Cluster, site: str, task_type: str) -> None:
    requirements = {"timeout_seconds": 1}
    task_id = cluster.submit(task_type, fill(HANGING[task_type], site), requirements=requirements)
    ended = cluster.ended(task_id)
    assert ended["status"] == "timeout"
    assert ended["error_history"][-1]["error_message"] == "ran longer than its timeout of 1 s"
    assert left_of(cluster, task_id) == []


@pytest.mark.parametrize("task_type", HANGING)
def test_cancel(cluster: Cluster, site: str, task_type: str) -> None:
    task_id = cluster.submit(task_type, fill(HANGING[task_type], site))
    until(lambda: cluster.get(f"tasks/{task_id}/status")["status"] == "running", "it to run")
    if task_type != "sleep":
        until(lambda: left_of(cluster, task_id), "its processes")
    answer = cluster.api.post(f"/api/v1/tasks/{task_id}/cancel")
    assert (answer.status_code, answer.json()["data"]["cancel_requested"]) == (200, True)
    ended = cluster.ended(task_id)
    assert ended["status"] == "cancelled"
    assert (ended["attempts"][-1]["confirmed"], ended["attempts"][-1]["reason"]) == (True, "stopped")
    assert left_of(cluster, task_id) == []


@pytest.mark.parametrize("task_type", SUCCESS)
def test_cancel_of_one_that_waits_is_at_once(cluster: Cluster, site: str, task_type: str) -> None:
    nowhere = {"required_tags": ["nowhere"]}
    task_id = cluster.submit(task_type, fill(SUCCESS[task_type][0], site), requirements=nowhere)
    answer = cluster.api.post(f"/api/v1/tasks/{task_id}/cancel")
    assert answer.json()["data"]["status"] == "cancelled"
    assert cluster.get(f"tasks/{task_id}")["attempts"] == []


def test_the_device_is_as_it_was(cluster: Cluster) -> None:
    device = cluster.get("devices/able")
    assert (device["status"], device["running_tasks"], device["status_reason"]) == ("online", 0, "")
    with socket.create_connection(("127.0.0.1", cluster.gateway_port), 5):
        pass  # the gateway listens as before
