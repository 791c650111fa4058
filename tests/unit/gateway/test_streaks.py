"""Fast failures in a row: what counts, and what ends the row."""

from uuid import UUID

import pytest

from retire_cluster.gateway.streaks import FAILURES, WITHIN_S, Streak
from retire_cluster.protocol.states import Outcome


def ended(streak: Streak, number: int, outcome: Outcome = Outcome.FAILED, ran_s: float = 0.1) -> None:
    streak.note(UUID(int=number), outcome, ran_s, now=float(number))


def row(length: int) -> Streak:
    streak = Streak()
    for number in range(length):
        ended(streak, number)
    return streak


def test_different_tasks_count_and_the_same_one_counts_once() -> None:
    streak = row(FAILURES)
    ended(streak, FAILURES - 1)
    assert streak.length(FAILURES) == FAILURES


@pytest.mark.parametrize(
    ("outcome", "ran_s", "left"),
    [
        (Outcome.SUCCESS, 0.0, 0),
        (Outcome.FAILED, 2.0, 0),
        (Outcome.FAILED, 1.9, 4),
        (Outcome.CANCELLED, 0.1, 3),
        (Outcome.TIMEOUT, 0.1, 3),
    ],
)
def test_what_shows_that_the_device_can_work_ends_the_row(outcome: Outcome, ran_s: float, left: int) -> None:
    streak = row(3)
    ended(streak, 3, outcome, ran_s)
    assert streak.length(4) == left


def test_old_failures_are_forgotten() -> None:
    streak = row(3)
    assert streak.length(WITHIN_S) == 3
    assert streak.length(WITHIN_S + 1.5) == 1
    assert streak.length(WITHIN_S + 9) == 0
