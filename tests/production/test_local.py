"""`make run-production`: one command, the whole production shape, and nothing left of it afterwards."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.architecture.code import ROOT
from tests.e2e.cluster import clean_environment, until
from tests.production import local
from tests.production.shape import START_S


class Run:
    """The command, started as `make` does but for its ports."""

    def __init__(self, output: Path) -> None:
        self.output = output
        with output.open("wb") as stream:
            self.process = psutil.Popen(
                [sys.executable, "-m", "tests.production.local", "--free-ports"],
                cwd=ROOT,
                env=clean_environment(),
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text()

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.said()
        return "Ctrl-C stops everything." in self.said()

    def found(self, pattern: str) -> str:
        match = re.search(pattern, self.said(), re.MULTILINE)
        assert match, self.said()
        return match[1]

    def processes(self) -> list[psutil.Process]:
        return list(self.process.children(recursive=True))

    def kill(self) -> None:
        """For a test that failed half-way."""
        for process in [*self.processes(), self.process] if self.process.poll() is None else []:
            process.kill()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    running = Run(tmp_path / "output")
    try:
        until(running.is_up, "everything to be up", START_S)
        yield running
    finally:
        running.kill()


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def runs_a_task(api: str, key: str) -> None:
    """Through this API, as an administrator."""
    with httpx.Client(base_url=api, headers={"X-API-Key": key}, timeout=70) as client:
        assert client.get("/health").json()["status"] == "healthy"
        until(lambda: client.get("/api/v1/tasks/types").json()["data"]["online_devices"], "its agent")
        body = {"task_type": "command", "payload": {"command": "echo works"}}
        path = f"/api/v1/tasks/{client.post('/api/v1/tasks', json=body).json()['data']['task_id']}"
        until(lambda: client.get(f"{path}/status").json()["data"]["is_terminal"], "its end")
        assert client.get(f"{path}/result").json()["data"]["result_data"]["stdout"] == "works\n"


def test_everything_works_and_ctrl_c_leaves_nothing(run: Run) -> None:
    data, key = Path(run.found(r"^Data +in (\S+),")), Path(run.found(r"^Admin key +in (\S+)$")).read_text()
    for server in ("uvicorn", "gunicorn"):
        runs_a_task(run.found(rf"(http://\S+)/api/v1 \({server}\)"), key.strip())
    names = {
        name.split(":")[0] for name in local.PROCFILE.read_text().splitlines() if re.match(r"\w+:", name)
    }
    assert set(re.findall(r"system +\| (\w+)\.1 started", run.said())) == names
    processes = run.processes()
    assert len(processes) > len(names)

    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(30) == 0, run.said()
    assert [process for process in processes if not is_gone(process)] == []
    assert not data.exists()


def test_a_process_that_dies_is_named_and_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local, "PROCFILE", tmp_path / "Procfile")
    (tmp_path / "Procfile").write_text("stays: exec sleep 600\ndies: exit 3\n")
    assert local._run(local.Place(tmp_path, {}, dict(os.environ))) == 3
    said = capfd.readouterr().out
    assert "dies.1 stopped (rc=3)" in said
    assert "stays.1 stopped (rc=-15)" in said


def test_lines_are_words() -> None:
    said = '{"timestamp": "2026-01-01T00:00:00.000Z", "level": "INFO", "logger": "a.b", "message": "hello", "n": 1}'
    assert local.readable(f"10:00:00 celery1.1 | {said}\n") == "10:00:00 celery1.1 | INFO a.b hello n=1\n"
    for line in (
        "10:00:00 system | beat.1 started (pid=1)\n",
        "10:00:00 x.1 | {broken\n",
        "x | [1]\n",
        "x | 1\n",
    ):
        assert local.readable(line) == line
