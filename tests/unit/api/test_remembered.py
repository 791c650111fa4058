"""Answers that are dear to find are kept as long as they cost."""

from collections.abc import Callable

import pytest

from retire_cluster.api import remembered
from retire_cluster.api.remembered import Remembered


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Oracle:
    """Finds another answer each time, and takes so long for it."""

    def __init__(self, clock: Clock, takes_s: float) -> None:
        self.clock, self.takes_s, self.asked = clock, takes_s, 0

    def __call__(self) -> int:
        self.clock.now += self.takes_s
        self.asked += 1
        return self.asked


def test_what_was_answered_from_memory_is_noted_with_how_long_it_stays() -> None:
    clock = Clock()
    quick, slow = Remembered[int](2.0, clock), Remembered[int](2.0, clock)
    with remembered.noted() as noted:
        quick.get("a", Oracle(clock, 0.0))
        slow.get("a", Oracle(clock, 0.1))
        quick.get("a", Oracle(clock, 0.0))
        assert remembered.stale_for() == noted.seconds == 0, "all found just now"
    clock.now += 0.5
    with remembered.noted():
        quick.get("a", Oracle(clock, 0.0))
        assert remembered.stale_for() == pytest.approx(1.4)
        slow.get("a", Oracle(clock, 0.0))
        assert remembered.stale_for() == pytest.approx(4.5), "the last of them"
        with remembered.noted():
            assert remembered.stale_for() == 0
    quick.get("a", Oracle(clock, 0.0))
    assert remembered.stale_for() == 0, "nobody notes it"


@pytest.fixture
def ask_of() -> Callable[[float], tuple[Clock, Callable[[str], int]]]:
    def make(takes_s: float) -> tuple[Clock, Callable[[str], int]]:
        clock = Clock()
        known: Remembered[int] = Remembered(2.0, clock)
        oracle = Oracle(clock, takes_s)
        return clock, lambda question: known.get(question, oracle)

    return make


def test_a_cheap_answer_is_kept_for_its_seconds(
    ask_of: Callable[..., tuple[Clock, Callable[[str], int]]],
) -> None:
    clock, ask = ask_of(0.0)

    assert [ask("a"), ask("a"), ask("b")] == [1, 1, 2]
    clock.now += 1.9
    assert ask("a") == 1
    clock.now += 0.1
    assert ask("a") == 3


def test_what_is_known_is_told_as_long_as_it_is_good_and_nothing_is_found_for_it() -> None:
    clock = Clock()
    answers: Remembered[int] = Remembered(2.0, clock)
    oracle = Oracle(clock, 0.0)

    assert (answers.known("a"), oracle.asked) == (None, 0)
    answers.get("a", oracle)
    assert (answers.known("a"), answers.known("b")) == (1, None)
    clock.now += 2.0
    assert (answers.known("a"), oracle.asked) == (None, 1)


def test_a_dear_answer_is_kept_until_it_has_paid(
    ask_of: Callable[..., tuple[Clock, Callable[[str], int]]],
) -> None:
    clock, ask = ask_of(1.0)  # two percent of fifty seconds

    assert ask("a") == 1
    clock.now += 49.9
    assert ask("a") == 1
    clock.now += 0.2
    assert ask("a") == 2


def test_a_failure_is_not_remembered() -> None:
    known: Remembered[int] = Remembered(2.0)

    with pytest.raises(ZeroDivisionError):
        known.get("a", lambda: 1 // 0)
    assert known.get("a", lambda: 7) == 7


def test_the_question_asked_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST", 2)
    known: Remembered[str] = Remembered(1000.0)
    for question in ("a", "b", "a", "c"):
        known.get(question, lambda: "first")

    assert {question: known.get(question, lambda: "again") for question in ("a", "c", "b")} == {
        "a": "first",
        "c": "first",
        "b": "again",
    }
