"""The database's clock, carried on by this process's."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import connection

from retire_cluster import db

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


class Clocks:
    """This process's, in seconds since it began, and the database's as it answers; `asked` counts the questions."""

    def __init__(self) -> None:
        self.own_s = 0.0
        self.database = NOON
        self.asked = 0

    def now(self) -> datetime:
        self.asked += 1
        return self.database


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(db, "is_postgresql", lambda: True)
    monkeypatch.setattr(db, "time", SimpleNamespace(monotonic=lambda: clocks.own_s))
    monkeypatch.setattr(db, "now", clocks.now)
    monkeypatch.setattr(db, "_carried", None)
    return clocks


def test_a_log_that_others_read_and_no_file_at_all_are_left_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "is_sqlite", lambda: True)
    file, log = tmp_path / "a name?#.sqlite3", tmp_path / "a name?#.sqlite3-wal"
    monkeypatch.setitem(connection.settings_dict, "NAME", file)
    db.fold_log()
    assert not file.exists()

    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE t (x)")
        with closing(sqlite3.connect(file, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM t").fetchall()
            writer.execute("INSERT INTO t VALUES (1)")
            db.fold_log()
            assert log.stat().st_size > 0
        db.fold_log()
        assert log.stat().st_size == 0
        assert writer.execute("SELECT * FROM t").fetchall() == [(1,)]


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_it_is_asked_once_a_second(clocks: Clocks) -> None:
    assert db.carried_now() == NOON
    clocks.own_s = 0.9
    assert db.carried_now() == after(0.9)
    assert clocks.asked == 1
    clocks.own_s, clocks.database = 1.1, after(1.2)
    assert db.carried_now() == after(1.2)
    assert clocks.asked == 2


def test_a_late_answer_does_not_put_it_back(clocks: Clocks) -> None:
    db.carried_now()
    clocks.own_s, clocks.database = 1.5, after(1.25)

    assert db.carried_now() == after(1.5)


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_jump_is_followed(clocks: Clocks, seconds: float) -> None:
    db.carried_now()
    clocks.own_s, clocks.database = 1.5, after(seconds)

    assert db.carried_now() == after(seconds)


def test_it_is_asked_before_its_second_is_over_where_this_process_may_have_slept(clocks: Clocks) -> None:
    db.carried_now()
    clocks.database = after(3600)  # its own clock stood still
    assert db.carried_now() == NOON

    assert db.carried_now(afresh=True) == after(3600)
    assert db.carried_now() == after(3600)
    assert clocks.asked == 2
