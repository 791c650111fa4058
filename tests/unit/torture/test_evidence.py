"""What the witnesses write is what the checker reads."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from retire_cluster.agent.ledger import Drop, Mark, Persist, Record
from retire_cluster.agent.outbox import Outbox
from retire_cluster.protocol.messages import Result
from retire_cluster.protocol.states import Outcome
from retire_cluster.torture import evidence, processes
from retire_cluster.torture.history import OnDisk
from tests.e2e.cluster import until

ATTEMPT = "a" * 32


def start(file: Path, seconds: float, code: int = 0) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        evidence.command(file, "1.0", seconds, code),
        env={**os.environ, "RETIRE_CLUSTER_ATTEMPT": ATTEMPT},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_work_signs_its_beginning_and_its_end_and_says_for_which_attempt(tmp_path: Path) -> None:
    file = tmp_path / "signs"
    work = start(file, 0.3, code=3)
    assert work.communicate()[0] == f"1.0 {ATTEMPT}\n"
    assert work.returncode == 3
    (run,) = evidence.executions(file)
    assert (run.attempt, run.pid, run.ended, run.is_alive) == (ATTEMPT, work.pid, True, False)
    assert run.last_sign > run.started


def test_work_that_is_killed_leaves_no_end_and_counts_as_alive_until_then(tmp_path: Path) -> None:
    file = tmp_path / "signs"
    with start(file, 600) as work:
        (run,) = until(lambda: evidence.executions(file), "the first sign")
        assert (run.ended, run.is_alive) == (False, True)
        until(lambda: " alive\n" in file.read_text(), "another sign")
        work.send_signal(signal.SIGKILL)
        work.wait()
        (run,) = evidence.executions(file)
        assert (run.ended, run.is_alive) == (False, False)


def test_each_run_stands_alone_and_half_a_line_is_no_sign(tmp_path: Path) -> None:
    file = tmp_path / "signs"
    file.write_text("a 4194300 2.0 start\nb 4194301 1.0 start\na 4194300 3.0 end\nb 41943")
    runs = evidence.executions(file)
    assert [(run.attempt, run.started, run.last_sign, run.ended) for run in runs] == [
        ("b", 1.0, 1.0, False),
        ("a", 2.0, 3.0, True),
    ]


def test_without_work_there_are_no_signs(tmp_path: Path) -> None:
    assert evidence.executions(tmp_path / "none") == ()


def test_a_log_tells_of_crashes_and_errors_and_of_nothing_else(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    assert evidence.errors(log) == []
    crash, error = "Traceback (most recent call last):", '{"level": "ERROR", "message": "broken"}'
    fine = ["Retire-Cluster is up.", '{"level": "WARNING", "message": "an ERROR of somebody else"}']
    log.write_text("\n".join([fine[0], crash, '  File "x.py"', error, fine[1]]))
    assert evidence.errors(log) == [crash, error]


def test_what_an_agent_has_not_delivered_is_read_from_its_disk(tmp_path: Path) -> None:
    assert evidence.outbox("ann", tmp_path) == ()
    outbox = Outbox(tmp_path / "agent")
    try:
        waiting = Result(attempt=ATTEMPT, outcome=Outcome.SUCCESS)
        gone = Result(attempt="b" * 32, outcome=Outcome.FAILED)
        outbox.apply([Persist(Record(item.attempt, Mark.DONE, item)) for item in (waiting, gone)])
        outbox.apply([Drop(gone.attempt)])
        assert evidence.outbox("ann", tmp_path) == (OnDisk(device="ann", attempt=ATTEMPT, outcome="success"),)
    finally:
        outbox.close()


def test_no_setting_of_a_real_cluster_reaches_a_scratch_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETIRE_CLUSTER_DATABASE_URL", "postgres://real")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "somebody.settings")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    found = processes.environment()
    assert not [name for name in found if name.startswith(("RETIRE_CLUSTER_", "DJANGO_"))]
    assert found["PYTHONPATH"].split(os.pathsep)[-1] == "elsewhere"
    assert Path(found["PYTHONPATH"].split(os.pathsep)[0], "retire_cluster").is_dir()
