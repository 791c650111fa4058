"""What counts as a disk that takes no more, and what is said of it."""

import sqlite3
from pathlib import Path

import pytest
from django.db import OperationalError

from retire_cluster import disk
from retire_cluster.api import exceptions


def failure_of(connection: sqlite3.Connection, statement: str) -> OperationalError:
    """The statement's error as Django passes it on."""
    with pytest.raises(sqlite3.OperationalError) as raised:
        connection.execute(statement)
    error = OperationalError(*raised.value.args)
    error.__cause__ = raised.value
    return error


@pytest.fixture
def full() -> OperationalError:
    """SQLite's own SQLITE_FULL, which it also says for ENOSPC."""
    with sqlite3.connect(":memory:") as connection:
        connection.execute("PRAGMA max_page_count=2")
        connection.execute("CREATE TABLE t (x)")
        found = failure_of(connection, "INSERT INTO t VALUES (zeroblob(100000))")
    connection.close()
    return found


def test_a_full_database_is_the_disk_s_fault_and_remembered(full: OperationalError) -> None:
    assert disk.is_refusal(full)
    assert disk.refused_lately()


def test_other_failures_are_not() -> None:
    connection = sqlite3.connect(":memory:")
    assert not disk.is_refusal(failure_of(connection, "SELECT * FROM nowhere"))
    assert not disk.is_refusal(OperationalError("server closed the connection unexpectedly"))
    connection.close()


def test_clients_are_told_that_the_disk_is_full_and_who_can_help(full: OperationalError) -> None:
    told = exceptions.from_exception(full)
    assert (told.status, told.headers["Retry-After"]) == (503, "5")
    assert "disk is full" in told.message
    assert "its operator has to make room" in told.message


def test_the_system_s_own_words_are_shown(tmp_path: Path) -> None:
    assert disk.trouble(tmp_path) == ""
    assert disk.trouble(tmp_path / "nowhere") == "No such file or directory"
    assert list(tmp_path.iterdir()) == [], "a look leaves nothing behind"


def test_free_room_is_a_figure(tmp_path: Path) -> None:
    assert disk.free_mb(tmp_path) > 0
