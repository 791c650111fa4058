"""The outbox: what is recorded, when, and in which order it is numbered."""

import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection

from retire_cluster import bulk, db, hints
from retire_cluster.events import numbering, outbox
from retire_cluster.events.models import EventBatch
from tasks import tallies

pytestmark = pytest.mark.django_db(transaction=True)
DEADLINE_S = 60.0
Writing = Callable[[], AbstractContextManager[None]]


def stored() -> list[tuple[int, int, list[Any]]]:
    """(first number, how many, the events) of all rows in the order of their numbers."""
    while numbering.number():
        pass
    rows = EventBatch.objects.order_by("seq_from").values_list("seq_from", "count", "events")
    return [(first or 0, count, json.loads(events)) for first, count, events in rows]


def record(*names: str) -> None:
    for name in names:
        outbox.record("device.removed", {"device_id": name})


def test_of_one_transaction_all_events_are_one_row() -> None:
    with db.write_transaction():
        record("a", "b")
        with db.write_transaction():
            record("c")
    with db.write_transaction():
        record("d")
    (first, second) = stored()
    assert first[:2] == (1, 3)
    assert [data["device_id"] for _, data in first[2]] == ["a", "b", "c"]
    assert second[:2] == (4, 1)


def test_what_is_undone_is_not_told() -> None:
    with pytest.raises(RuntimeError), db.write_transaction():
        record("a")
        raise RuntimeError
    with db.write_transaction():
        record("b")
        with pytest.raises(RuntimeError), db.write_transaction():
            record("c")
            raise RuntimeError
    assert [data["device_id"] for _, _, events in stored() for _, data in events] == ["b"]


WRITES = pytest.mark.parametrize("writing", [db.write_transaction, bulk.one_write])


@WRITES
def test_listeners_are_told_after_the_commit_and_only_then(writing: Writing) -> None:
    heard: list[str] = []
    stop = hints.subscribe(heard.append)
    try:
        with writing():
            record("a")
            assert heard == []
        assert heard == [hints.NEWS]
        with writing():
            pass
        assert heard == [hints.NEWS]
    finally:
        stop()


@WRITES
def test_what_they_are_told_of_is_there(writing: Writing) -> None:
    seen: list[int] = []
    stop = hints.subscribe(lambda hint: seen.append(EventBatch.objects.count()))
    try:
        with writing():
            record("a")
    finally:
        stop()
    assert seen == [1]


def test_inserts_that_are_one_statement_are_all_stored_or_none() -> None:
    with pytest.raises(IntegrityError), bulk.one_write():
        tallies.add({("counted", ""): 1.0})
        record("a")
        bulk.insert_rows(EventBatch, ("count", "events", "created_at"), [(None, "[]", db.now())])
    assert (stored(), tallies.totals()) == ([], {})

    with pytest.raises(RuntimeError), bulk.one_write():
        tallies.add({("counted", ""): 1.0})
        record("a")
        raise RuntimeError
    assert (stored(), tallies.totals()) == ([], {})

    with bulk.one_write():
        tallies.add({("counted", ""): 1.0})
        record("a")
    assert ([row[:2] for row in stored()], tallies.totals()) == ([(1, 1)], {"counted": {"": 1.0}})


def test_numbers_have_no_gap_and_follow_the_commits_of_many_writers() -> None:
    """Each writer's events must be in its order, whatever ids the database gave them."""
    writers, each = 6, 25
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            for number in range(each):
                with db.write_transaction():
                    outbox.record("device.changed", {"device_id": f"w{writer}", "number": number})
                if number % 5 == 0:
                    numbering.number()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert failures == []
    rows = stored()
    assert [first for first, _, _ in rows] == list(range(1, writers * each + 1))
    told = [data for _, _, events in rows for _, data in events]
    for writer in range(writers):
        assert [data["number"] for data in told if data["device_id"] == f"w{writer}"] == list(range(each))


def test_old_events_are_deleted_and_the_numbers_go_on() -> None:
    for name in "abc":
        with db.write_transaction():
            record(name)
    assert len(stored()) == 3
    EventBatch.objects.update(created_at=db.now() - outbox.KEPT - timedelta(seconds=1))
    outbox.prunable().delete()
    assert [first for first, _, _ in stored()] == [3], "the newest stays: the next number follows from it"
    with db.write_transaction():
        record("d")
    assert [first for first, _, _ in stored()] == [3, 4]


def test_too_many_events_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "KEPT_ROWS", 2)
    for name in "abcd":
        with db.write_transaction():
            record(name)
    assert len(stored()) == 4
    outbox.prunable().delete()
    assert [first for first, _, _ in stored()] == [3, 4]


def test_an_unknown_type_is_a_defect() -> None:
    with pytest.raises(AssertionError, match=r"device\.exploded"):
        outbox.record("device.exploded", {})
