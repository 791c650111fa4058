"""The model sees what it is for: each rule taken away breaks a promise, and the model says which."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from retire_cluster.agent.ledger import Instruction, Ledger
from retire_cluster.protocol.messages import Assign
from retire_cluster.protocol.states import AttemptState, DeviceLossPolicy, HeldState, Outcome, TaskStatus
from tasks import reconcile, rules
from tests.unit.tasks import model
from tests.unit.tasks.model import FAIL, REQUEUE, Budget, Work

Patch = Callable[[pytest.MonkeyPatch], None]


def no_round_check(patch: pytest.MonkeyPatch) -> None:
    def adoptable(task: rules.TaskRow, attempt: rules.AttemptRow) -> bool:
        return (
            task.status is TaskStatus.QUEUED
            and task.cancel_requested_at is None
            and attempt.outcome in (Outcome.RETURNED, Outcome.LOST)
        )

    patch.setattr(rules, "adoptable", adoptable)
    patch.setattr(reconcile, "adoptable", adoptable)


def no_precedence_of_cancel(patch: pytest.MonkeyPatch) -> None:
    lose = rules.lose

    def forgetful(task: rules.TaskRow, attempt: rules.AttemptRow, **rest: Any) -> rules.Step | None:
        step = lose(task._replace(cancel_requested_at=None), attempt, **rest)
        return step and step._replace(task=step.task._replace(cancel_requested_at=task.cancel_requested_at))

    patch.setattr(rules, "lose", forgetful)


def no_tombstones(patch: pytest.MonkeyPatch) -> None:
    def is_known(ledger: Ledger, attempt: str) -> bool:
        return any(attempt == held for held, _ in ledger.held())

    patch.setattr(Ledger, "_is_known", is_known)


def no_waiting_for_go(patch: pytest.MonkeyPatch) -> None:
    assign = Ledger.assign

    def eager(ledger: Ledger, message: Assign, *, refuse: str | None) -> list[Instruction]:
        return assign(ledger, replace(message, wait_for_go=False), refuse=refuse)

    patch.setattr(Ledger, "assign", eager)


def no_comparison_at_heartbeats(patch: pytest.MonkeyPatch) -> None:
    def silent(
        device_id: str,
        session: int,
        held: Mapping[UUID, HeldState],
        rows: reconcile.Rows,
        overdue: Collection[UUID],
    ) -> Iterable[reconcile.Action]:
        return ()

    patch.setattr(reconcile, "at_heartbeat", silent)


def late_results_count(patch: pytest.MonkeyPatch) -> None:
    finish = rules.finish

    def generous(
        task: rules.TaskRow, attempt: rules.AttemptRow, report: rules.Report, **rest: Any
    ) -> rules.Step:
        if task.status in (TaskStatus.ASSIGNED, TaskStatus.RUNNING) and not attempt.reported:
            attempt = attempt._replace(state=AttemptState.RUNNING)
        return finish(task, attempt, report, **rest)

    patch.setattr(rules, "finish", generous)


def claims_need_no_queue(patch: pytest.MonkeyPatch) -> None:
    lose = rules.lose

    def careless(task: rules.TaskRow, attempt: rules.AttemptRow, **rest: Any) -> rules.Step | None:
        step = lose(task, attempt, **rest)
        # The task is queued again, the attempt stays alive.
        return step and (step._replace(attempt=attempt) if step.task.status is TaskStatus.QUEUED else step)

    patch.setattr(rules, "lose", careless)


def heartbeats_do_not_repeat_a_time_limit(patch: pytest.MonkeyPatch) -> None:
    at_heartbeat = reconcile.at_heartbeat

    def forgetful(
        device_id: str,
        session: int,
        held: Mapping[UUID, HeldState],
        rows: reconcile.Rows,
        overdue: Collection[UUID],
    ) -> Iterable[reconcile.Action]:
        return at_heartbeat(device_id, session, held, rows)

    patch.setattr(reconcile, "at_heartbeat", forgetful)


def the_server_s_patience_never_ends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "overrule", lambda task, attempt, **rest: None)


def a_time_limit_beats_a_cancel(patch: pytest.MonkeyPatch) -> None:
    overrule = rules.overrule

    def forgetful(task: rules.TaskRow, attempt: rules.AttemptRow, **rest: Any) -> rules.Step | None:
        step = overrule(task._replace(cancel_requested_at=None), attempt, **rest)
        return step and step._replace(task=step.task._replace(cancel_requested_at=task.cancel_requested_at))

    patch.setattr(rules, "overrule", forgetful)


def what_was_not_stopped_is_queued_again(patch: pytest.MonkeyPatch) -> None:
    def lenient(task: rules.TaskRow, attempt: rules.AttemptRow, **rest: Any) -> rules.Step | None:
        return rules.lose(task, attempt, reason="not stopped", max_losses=3, **rest)

    patch.setattr(rules, "overrule", lenient)


MUTANTS: tuple[tuple[Patch, DeviceLossPolicy, Budget, str], ...] = (
    (no_round_check, FAIL, Budget(expiries=1, retries=1), "an attempt of another round is live"),
    (
        no_precedence_of_cancel,
        REQUEUE,
        Budget(expiries=1, cancels=1),
        "a cancelled task went back to the queue",
    ),
    (no_tombstones, REQUEUE, Budget(repeats=1), "an attempt was started twice"),
    (no_waiting_for_go, FAIL, Budget(expiries=1), "at-most-once was started twice"),
    (no_comparison_at_heartbeats, FAIL, Budget(drops=1), "it does not settle"),
    (late_results_count, REQUEUE, Budget(expiries=1), "live attempts"),
    (claims_need_no_queue, REQUEUE, Budget(expiries=1), "queued with 1 live attempts"),
)


@pytest.mark.parametrize(
    ("mutate", "policy", "budget", "promise"), MUTANTS, ids=lambda item: getattr(item, "__name__", "")
)
def test_a_rule_taken_away_is_noticed(
    mutate: Patch,
    policy: DeviceLossPolicy,
    budget: Budget,
    promise: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutate(monkeypatch)
    with pytest.raises(model.Violation, match=promise):
        model.check_settling(model.explore(model.initial(policy, budget)))


OBEYED = "a device that obeys was told to stop, and did not hear of it"
DEADLINE_MUTANTS: tuple[tuple[Patch, Budget, Work, str], ...] = (
    (heartbeats_do_not_repeat_a_time_limit, Budget(overruns=1, drops=1), "hangs", OBEYED),
    (the_server_s_patience_never_ends, Budget(), "defies", "it does not settle"),
    (
        a_time_limit_beats_a_cancel,
        Budget(overruns=1, verdicts=1, cancels=1),
        "defies",
        "a cancelled task ended as timeout",
    ),
    (
        what_was_not_stopped_is_queued_again,
        Budget(overruns=1, verdicts=1),
        "hangs",
        "an attempt came back after the server had ended it",
    ),
)


@pytest.mark.parametrize(
    ("mutate", "budget", "work", "promise"), DEADLINE_MUTANTS, ids=lambda item: getattr(item, "__name__", "")
)
def test_a_rule_of_the_deadlines_taken_away_is_noticed(
    mutate: Patch, budget: Budget, work: Work, promise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(model.Violation, match=promise):
        model.check_settling(model.explore(model.initial(REQUEUE, budget, work)))


Start = tuple[DeviceLossPolicy, Budget, Work]
BROKEN: set[Start] = {(policy, budget, "ends") for _, policy, budget, _ in MUTANTS}
BROKEN |= {(REQUEUE, budget, work) for _, budget, work, _ in DEADLINE_MUTANTS}
ELSEWHERE: set[Start] = {*model.DEADLINES, *((policy, budget, "ends") for policy, budget in model.QUICK)}


# The rest passes in test_model.py.
@pytest.mark.parametrize(("policy", "budget", "work"), sorted(BROKEN - ELSEWHERE), ids=str)
def test_with_the_rules_in_place_the_same_explorations_pass(
    policy: DeviceLossPolicy, budget: Budget, work: Work
) -> None:
    model.check_settling(model.explore(model.initial(policy, budget, work)))
