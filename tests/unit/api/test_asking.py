"""Asking services how they are: one at a time, remembered, and never waited for long."""

import threading

import pytest

from retire_cluster.ops import asking
from retire_cluster.ops.asking import Question

PATIENCE_S = 30.0


class Service:
    """Answers with the number of times it was asked, once it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.may = threading.Event()
        self.may.set()

    def __call__(self) -> int:
        self.asked += 1
        number = self.asked
        assert self.may.wait(PATIENCE_S)
        return number


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(asking, "PATIENCE_S", 0.02)
    monkeypatch.setattr(asking, "FIRST_S", 0.05)
    monkeypatch.setattr(asking, "KEPT_S", PATIENCE_S)
    monkeypatch.setattr(asking, "LATE_S", PATIENCE_S)
    return Service()


def ask(question: Question[int]) -> int | None:
    question.put()
    return question.answer()


def after(question: Question[int]) -> None:
    """Once what was asked is over."""
    assert question._call is not None
    assert question._call.over.wait(PATIENCE_S)


def test_whoever_asks_soon_after_shares_the_answer(service: Service) -> None:
    question = Question("it", service)
    question.put()
    after(question)
    assert [ask(question) for _ in range(5)] == [1] * 5


def test_an_old_answer_is_asked_for_anew(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "KEPT_S", 0.0)
    question = Question("it", service)
    for number in (1, 2, 3):
        question.put()
        after(question)
        assert question.answer() == number


def test_a_service_that_hangs_is_asked_by_one_thread_only(service: Service) -> None:
    service.may.clear()
    question = Question("it", service)
    assert [ask(question) for _ in range(5)] == [None] * 5
    assert service.asked == 1
    service.may.set()
    after(question)
    assert ask(question) == 1, "a late answer counts"


def test_a_slow_service_is_believed_for_a_while_and_a_silent_one_is_not(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "KEPT_S", 0.0)
    question = Question("it", service)
    question.put()
    after(question)
    service.may.clear()
    assert ask(question) == 1
    monkeypatch.setattr(asking, "LATE_S", 0.0)
    assert ask(question) is None
    service.may.set()


def test_a_question_nobody_put_has_no_answer(service: Service) -> None:
    assert Question("it", service).answer() is None
