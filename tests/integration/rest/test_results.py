"""Results of many tasks, on both databases: what is measured of them before they are read."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks import results
from tests.factories import make_device, make_finished_task, make_task

pytestmark = pytest.mark.django_db


def test_all_its_texts_count_and_what_has_none_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    device = make_device()
    texts = {"error_message": "m" * 30, "error_traceback": "t" * 30}
    bare = make_finished_task(device, status="failed", result=None)
    never_ran = make_task(status="cancelled")
    wordy = make_finished_task(device, status="failed", result=f'"{"ü" * 38}"', **texts)
    last = make_finished_task(device)
    monkeypatch.setattr(results, "MAX_CHARACTERS", 100)

    found = results.read([bare.pk, never_ran.pk, wordy.pk, last.pk])

    assert [task.pk for task, _ in found.ended] == [bare.pk, never_ran.pk, wordy.pk], (
        "100 characters, not bytes"
    )
    assert [attempt is None for _, attempt in found.ended] == [False, True, False]
    assert found.left_out == [last.pk]


def test_a_hundred_are_three_statements() -> None:
    device = make_device()
    tasks = [make_finished_task(device) for _ in range(100)]

    with CaptureQueriesContext(connection) as queries:
        found = results.read([task.pk for task in reversed(tasks)])

    assert [task.pk for task, _ in found.ended] == [task.pk for task in reversed(tasks)]
    assert len(queries) == 3


def test_of_nothing_nothing_is_read() -> None:
    with CaptureQueriesContext(connection) as queries:
        assert results.read([]) == results.Results([], [], [], [])
    assert len(queries) == 0
