import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from retire_cluster.agent import outbox as module
from retire_cluster.agent.errors import AgentExit, ExitCode
from retire_cluster.agent.ledger import Drop, Forget, Mark, Persist, Record, Reject
from retire_cluster.agent.outbox import Outbox, OutboxError
from retire_cluster.protocol.messages import Result
from retire_cluster.protocol.states import Outcome

A, B = "a" * 32, "b" * 32
DONE = Record(A, Mark.DONE, Result(attempt=A, outcome=Outcome.SUCCESS, ran_s=1.5, result_json='{"x":"ü\\n"}'))
SEEN = Record(B, Mark.SEEN)


def reopened(outbox: Outbox, directory: Path) -> Outbox:
    outbox.close()
    return Outbox(directory)


def test_records_survive_a_restart(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.apply([Persist(DONE), Persist(SEEN)])
    outbox = reopened(outbox, tmp_path)
    assert outbox.records() == [DONE, SEEN]
    outbox.apply([Drop(A), Forget((B,))])
    outbox = reopened(outbox, tmp_path)
    assert outbox.records() == [Record(A, Mark.OVER)]
    outbox.close()


def test_a_commit_survives_kill_9(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from retire_cluster.agent.outbox import Outbox, Persist, Record;"
        "from retire_cluster.agent.ledger import Mark; box = Outbox(Path(sys.argv[1]));"
        f"box.apply([Persist(Record('{B}', Mark.SEEN))]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    outbox = Outbox(tmp_path)
    assert outbox.records() == [SEEN]
    outbox.close()


def test_everything_is_private(tmp_path: Path) -> None:
    directory = tmp_path / "agent"
    outbox = Outbox(directory)
    outbox.apply([Persist(DONE), Reject(DONE)])
    assert directory.stat().st_mode & 0o777 == 0o700
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    outbox.close()


def test_a_failing_write_leaves_nothing_of_its_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    outbox = Outbox(tmp_path)
    monkeypatch.setattr(module, "keep_rejected", fail)
    with pytest.raises(OutboxError, match="No space left"):
        outbox.apply([Persist(SEEN), Reject(DONE)])
    assert outbox.records() == []
    outbox.close()


def test_a_full_disk_is_an_error_of_its_own_and_passes(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    (pages,) = outbox._connection.execute("PRAGMA page_count").fetchone()
    outbox._connection.execute(f"PRAGMA max_page_count={pages}")
    big = Record(A, Mark.DONE, Result(attempt=A, outcome=Outcome.FAILED, error_message="x" * 4000))
    batch = [Persist(Record(f"{n:032x}", Mark.DONE, big.result)) for n in range(50)]
    with pytest.raises(OutboxError, match="full"):
        outbox.apply(batch)
    outbox._connection.execute("PRAGMA max_page_count=100000")
    outbox.apply(batch)
    assert len(outbox.records()) == 50
    outbox.close()


def test_sync_folds_the_log_in_and_a_large_log_asks_for_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    big = Result(attempt=A, outcome=Outcome.SUCCESS, result_json='"' + "x" * 300_000 + '"')
    assert not outbox.needs_sync()
    for _ in range(5):
        outbox.apply([Persist(Record(A, Mark.DONE, big))])
    assert outbox.needs_sync()
    outbox.sync()
    # The database file alone now holds everything.
    copy = tmp_path / "copy.sqlite3"
    copy.write_bytes((tmp_path / "outbox.sqlite3").read_bytes())
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT count(*) FROM record").fetchone() == (1,)
    connection.close()
    outbox.apply([Drop(A)])
    assert (tmp_path / "outbox.sqlite3-wal").stat().st_size < 2_000_000
    outbox.close()


@pytest.mark.parametrize("garbage", [b"not a database at all, " * 100, None])
def test_a_damaged_file_is_moved_aside(
    tmp_path: Path, garbage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(tmp_path)
    outbox.apply([Persist(DONE)] + [Persist(Record(f"{n:032x}", Mark.SEEN)) for n in range(500)])
    outbox.sync()
    outbox.close()
    file = tmp_path / "outbox.sqlite3"
    content = file.read_bytes()
    file.write_bytes(garbage or content[:4096] + b"\xff" * (len(content) - 4096))
    outbox = Outbox(tmp_path)
    assert outbox.records() == []
    outbox.apply([Persist(SEEN)])
    outbox.close()
    assert "is damaged" in caplog.text
    assert (tmp_path / "outbox.sqlite3.damaged").exists()


def test_an_unreadable_row_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(tmp_path)
    outbox.apply([Persist(DONE), Persist(SEEN)])
    with outbox._connection as connection:
        connection.execute("UPDATE record SET result = '{' WHERE attempt = ?", (A,))
    assert outbox.records() == [SEEN]
    assert "ignored" in caplog.text
    outbox.close()


def test_a_second_agent_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    first = Outbox(tmp_path)
    with pytest.raises(AgentExit, match="another agent uses") as caught:
        Outbox(tmp_path)
    assert caught.value.code is ExitCode.USAGE
    first.close()
    Outbox(tmp_path).close()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AgentExit, match="--data-dir"):
        Outbox(tmp_path / "file" / "agent")


def test_at_most_a_hundred_rejected_results_are_kept(tmp_path: Path) -> None:
    for number in range(module.MAX_REJECTED + 3):
        module.keep_rejected(tmp_path, Record(f"{number:032x}", Mark.DONE, DONE.result))
        os.utime(tmp_path / f"{number:032x}.json", ns=(number, number))
    kept = sorted(path.name for path in tmp_path.glob("*.json"))
    assert len(kept) == module.MAX_REJECTED
    assert kept[0] == f"{3:032x}.json"
