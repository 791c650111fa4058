"""Each line of the life cycle's tables: who may move a task where, and what it costs."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from retire_cluster.protocol.states import (
    AttemptState,
    DeviceLossPolicy,
    Outcome,
    TaskStatus,
    Verdict,
)
from tasks import rules
from tests.unit.tasks import model
from tests.unit.tasks.model import NOW, Budget

LATER = NOW + timedelta(seconds=10)
IDS = UUID(int=1)
WAITING = model.initial(DeviceLossPolicy.REQUEUE, Budget()).task


def task(**changes: Any) -> rules.TaskRow:
    """A queued task, or what the changes make of it."""
    return WAITING._replace(**changes)


def claimed(row: rules.TaskRow = WAITING) -> rules.Step:
    step = rules.claim(
        row, attempt_id=IDS, device_id="pi", session=1, reservation=(2, 512, 0), now=NOW, offer_s=10
    )
    assert step is not None
    return step


def accepted(row: rules.TaskRow = WAITING) -> rules.Step:
    step = rules.accept(*pair(claimed(row)), session=1, now=NOW, lease_s=100)
    assert step is not None
    return step


def pair(step: rules.Step) -> tuple[rules.TaskRow, rules.AttemptRow]:
    return step.task, step.attempt


def lost(step: rules.Step, now: datetime = LATER, max_losses: int = 3) -> rules.Step:
    found = rules.lose(*pair(step), reason="gone", now=now, max_losses=max_losses)
    assert found is not None
    return found


def finished(step: rules.Step, outcome: Outcome, **report: Any) -> rules.Step:
    return rules.finish(*pair(step), rules.Report(outcome=outcome, **report), now=LATER, jitter=1)


# --- claim and accept -----------------------------------------------------------------------------------------


def test_a_claim_makes_an_offer_with_what_it_reserves() -> None:
    step = claimed()
    assert (step.task.status, step.task.device_id, step.task.attempt_no) == (TaskStatus.ASSIGNED, "pi", 1)
    assert (step.attempt.state, step.attempt.no, step.attempt.session) == (AttemptState.OFFERED, 1, 1)
    assert (step.attempt.slots, step.attempt.memory_mb, step.attempt.storage_mb) == (2, 512, 0)
    assert step.attempt.lease_until == LATER


@pytest.mark.parametrize("status", [status for status in TaskStatus if status is not TaskStatus.QUEUED])
def test_only_a_queued_task_is_claimed(status: TaskStatus) -> None:
    row = task(status=status)
    given = {"attempt_id": IDS, "device_id": "pi", "session": 1, "reservation": (1, 0, 0), "now": NOW}
    assert rules.claim(row, **given, offer_s=10) is None  # type: ignore[arg-type]  # values of several types
    assert rules.claim(task(cancel_requested_at=NOW), **given, offer_s=10) is None  # type: ignore[arg-type]


def test_an_accept_counts_on_the_session_it_was_offered_to_only() -> None:
    offer = claimed()
    assert rules.accept(*pair(offer), session=2, now=NOW, lease_s=100) is None
    running = accepted()
    assert running.task.status is TaskStatus.RUNNING
    assert running.attempt.lease_until == NOW + timedelta(seconds=100)
    assert rules.accept(*pair(running), session=1, now=LATER, lease_s=100) is None


# --- losing a live attempt: the first line that fits ----------------------------------------------------------


def test_a_lost_attempt_of_a_cancelled_task_ends_it_without_confirmation() -> None:
    step = accepted()
    asked = step._replace(task=rules.cancel(step.task, by="ann", now=NOW))
    after = lost(asked)
    assert (after.task.status, after.attempt.outcome) == (TaskStatus.CANCELLED, Outcome.CANCELLED)
    assert after.attempt.confirmed is False
    assert "told to stop" in after.attempt.reason


@pytest.mark.parametrize("policy", DeviceLossPolicy)
def test_an_offer_nobody_accepted_goes_back_for_nothing(policy: DeviceLossPolicy) -> None:
    after = lost(claimed(task(on_device_loss=policy, rank=42)))
    assert (after.task.status, after.attempt.outcome) == (TaskStatus.QUEUED, Outcome.RETURNED)
    assert (after.task.losses, after.task.rank, after.task.avoid_device) == (0, 42, "")


def test_at_most_once_fails_with_the_device() -> None:
    after = lost(accepted(task(on_device_loss=DeviceLossPolicy.FAIL)))
    assert (after.task.status, after.attempt.error_code) == (TaskStatus.FAILED, rules.DEVICE_LOST)
    assert after.task.result_attempt == IDS


def test_a_lost_attempt_past_its_time_limit_timed_out() -> None:
    limit = NOW + timedelta(seconds=WAITING.timeout_s)
    assert lost(accepted(), now=limit).task.status is TaskStatus.TIMEOUT
    assert lost(accepted(), now=limit - timedelta(seconds=1)).task.status is TaskStatus.QUEUED


def test_a_loss_is_counted_and_the_device_avoided_until_there_were_too_many() -> None:
    after = lost(accepted(task(losses=2, rank=42)))
    assert (after.task.status, after.task.losses, after.task.avoid_device) == (TaskStatus.QUEUED, 3, "pi")
    assert after.task.rank == 42
    last = lost(accepted(task(losses=3)))
    assert (last.task.status, last.attempt.error_code) == (TaskStatus.FAILED, rules.DEVICE_LOST)
    assert "lost 4 times" in last.attempt.error_message


def test_what_has_ended_cannot_be_lost() -> None:
    done = finished(accepted(), Outcome.SUCCESS)
    assert rules.lose(*pair(done), reason="gone", now=LATER, max_losses=3) is None
    assert rules.hand_back(*pair(done), reason="bye", now=LATER) is None
    assert rules.move(*pair(done), session=2, now=LATER, lease_s=9) is None


def test_handing_back_is_no_loss_unless_work_may_have_been_done_once() -> None:
    returned = rules.hand_back(*pair(accepted()), reason="bye", now=LATER)
    assert returned is not None
    assert (returned.task.status, returned.task.losses) == (TaskStatus.QUEUED, 0)
    once = accepted(task(on_device_loss=DeviceLossPolicy.FAIL))
    failed = rules.hand_back(*pair(once), reason="bye", now=LATER)
    assert failed is not None
    assert failed.task.status is TaskStatus.FAILED
    asked = accepted()
    asked = asked._replace(task=rules.cancel(asked.task, by="ann", now=NOW))
    stopped = rules.hand_back(*pair(asked), reason="bye", now=LATER)
    assert stopped is not None
    assert (stopped.task.status, stopped.attempt.confirmed) == (TaskStatus.CANCELLED, True)


# --- finishing: the first line that fits ----------------------------------------------------------------------


@pytest.mark.parametrize("asked", [False, True])
def test_success_counts_even_after_a_cancel(asked: bool) -> None:
    step = accepted()
    if asked:
        step = step._replace(task=rules.cancel(step.task, by="ann", now=NOW))
    after = finished(step, Outcome.SUCCESS, result="{}", ran_s=3)
    assert (after.task.status, after.verdict) == (TaskStatus.SUCCESS, Verdict.RECORDED)
    assert (after.task.result_attempt, after.task.execution_s, after.attempt.result) == (IDS, 3, "{}")


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMEOUT, Outcome.CANCELLED])
def test_any_other_end_after_a_cancel_is_cancelled_and_names_what_survives(outcome: Outcome) -> None:
    step = accepted(task(max_retries=5))
    step = step._replace(task=rules.cancel(step.task, by="ann", now=NOW))
    after = finished(step, outcome, survivors=("pid 7",))
    assert (after.task.status, after.attempt.confirmed) == (TaskStatus.CANCELLED, False)
    assert "pid 7" in after.attempt.reason
    assert finished(step, outcome).attempt.confirmed is True


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMEOUT])
@pytest.mark.parametrize(("failures", "delay_s"), [(0, 2), (1, 4), (3, 16), (7, 256), (8, 300), (9, 300)])
def test_a_failure_within_the_retries_waits_longer_each_time(
    outcome: Outcome, failures: int, delay_s: int
) -> None:
    after = finished(accepted(task(max_retries=10, failures=failures)), outcome)
    assert (after.task.status, after.task.failures) == (TaskStatus.PENDING, failures + 1)
    assert after.task.ready_at == LATER + timedelta(seconds=delay_s)
    assert after.task.avoid_device == "pi"
    assert after.task.result_attempt is None
    assert rules.ready(after.task, now=LATER) is None
    ready = rules.ready(after.task, now=after.task.ready_at)
    assert ready is not None
    assert ready.status is TaskStatus.QUEUED


@pytest.mark.parametrize(
    ("outcome", "status"), [(Outcome.FAILED, TaskStatus.FAILED), (Outcome.TIMEOUT, TaskStatus.TIMEOUT)]
)
def test_a_failure_beyond_the_retries_is_the_end(outcome: Outcome, status: TaskStatus) -> None:
    after = finished(accepted(task(max_retries=1, failures=1)), outcome, error_message="no")
    assert (after.task.status, after.task.failures) == (status, 2)
    assert after.attempt.error_message == "no"


def test_a_result_before_its_accept_counts_too() -> None:
    after = finished(claimed(), Outcome.SUCCESS, ran_s=99)
    assert after.task.status is TaskStatus.SUCCESS
    assert after.attempt.ran_s == 10  # a device's clock decides nothing: the server saw ten seconds


@pytest.mark.parametrize(("measured_s", "recorded_s"), [(7.5, 7.5), (10_000.0, 306.0)])
def test_a_clock_that_went_back_does_not_take_the_time_a_task_ran(
    measured_s: float, recorded_s: float
) -> None:
    step = accepted()
    report = rules.Report(outcome=Outcome.FAILED, ran_s=measured_s)
    ten_years_ago = step.attempt.offered_at - timedelta(days=3652)
    after = rules.finish(*pair(step), report, now=ten_years_ago, jitter=1.0)
    assert (after.attempt.ran_s, after.task.execution_s) == (recorded_s, recorded_s)


def test_the_same_result_again_changes_nothing() -> None:
    first = finished(accepted(), Outcome.SUCCESS, result="1")
    again = finished(first, Outcome.FAILED, result="2")
    assert (again.task, again.attempt, again.verdict) == (first.task, first.attempt, Verdict.RECORDED)


def test_a_late_result_is_adopted_while_nothing_happened_since() -> None:
    gone = lost(accepted())
    after = finished(gone, Outcome.SUCCESS)
    assert (after.task.status, after.task.losses, after.verdict) == (TaskStatus.SUCCESS, 0, Verdict.RECORDED)


def test_a_later_result_is_evidence_only() -> None:
    gone = lost(accepted())
    elsewhere = rules.claim(
        gone.task,
        attempt_id=UUID(int=2),
        device_id="nas",
        session=1,
        reservation=(1, 0, 0),
        now=LATER,
        offer_s=10,
    )
    assert elsewhere is not None
    late = finished(gone._replace(task=elsewhere.task), Outcome.SUCCESS, result='{"late": 1}')
    assert (late.task, late.verdict) == (elsewhere.task, Verdict.SUPERSEDED)
    assert "late" in late.attempt.late
    assert finished(late, Outcome.FAILED).attempt.late == late.attempt.late


# --- adopting -------------------------------------------------------------------------------------------------


def test_an_adoption_refunds_the_loss() -> None:
    gone = lost(accepted())
    back = rules.adopt(*pair(gone), session=7, now=LATER, lease_s=50)
    assert back is not None
    assert (back.task.status, back.task.losses, back.task.avoid_device) == (TaskStatus.RUNNING, 0, "")
    assert (back.attempt.session, back.attempt.outcome, back.attempt.live) == (7, None, True)


@pytest.mark.parametrize(
    "since",
    [
        {"status": TaskStatus.ASSIGNED},
        {"status": TaskStatus.CANCELLED},
        {"cancel_requested_at": NOW},
        {"round": 2},
        {"attempt_no": 2},
    ],
    ids=str,
)
def test_nothing_is_adopted_after_something_happened(since: dict[str, Any]) -> None:
    gone = lost(accepted())
    assert rules.adopt(gone.task._replace(**since), gone.attempt, session=7, now=LATER, lease_s=50) is None


# --- leases ---------------------------------------------------------------------------------------------------


def test_a_closed_connection_shortens_the_lease_of_its_own_session_only() -> None:
    step = accepted()
    soon = NOW + timedelta(seconds=5)
    shorter = rules.shorten(*pair(step), session=1, until=soon)
    assert shorter is not None
    assert shorter.attempt.lease_until == soon
    assert rules.shorten(*pair(step), session=2, until=soon) is None
    assert rules.shorten(*pair(step), session=1, until=NOW + timedelta(days=1)) is None
    once = accepted(task(on_device_loss=DeviceLossPolicy.FAIL))
    assert rules.shorten(*pair(once), session=1, until=soon) is None


def test_a_lease_is_renewed_forwards_only() -> None:
    step = accepted()
    assert rules.renew(*pair(step), until=NOW) is None
    longer = rules.renew(*pair(step), until=NOW + timedelta(seconds=200))
    assert longer is not None
    assert longer.attempt.lease_until == NOW + timedelta(seconds=200)


# --- what people ask for --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [TaskStatus.PENDING, TaskStatus.QUEUED])
def test_a_waiting_task_is_cancelled_at_once(status: TaskStatus) -> None:
    after = rules.cancel(task(status=status), by="ann", now=NOW)
    assert (after.status, after.finished_at, after.cancel_requested_by) == (TaskStatus.CANCELLED, NOW, "ann")


def test_a_task_on_a_device_is_asked_to_stop_once() -> None:
    running = accepted().task
    asked = rules.cancel(running, by="ann", now=NOW)
    assert (asked.status, asked.cancel_requested_at) == (TaskStatus.RUNNING, NOW)
    assert rules.cancel(asked, by="bob", now=LATER) is asked


@pytest.mark.parametrize("status", [status for status in TaskStatus if status.is_terminal])
def test_what_is_over_cannot_be_cancelled(status: TaskStatus) -> None:
    with pytest.raises(rules.NotAllowed, match=f"{status} cannot be cancelled") as caught:
        rules.cancel(task(status=status), by="ann", now=NOW)
    assert caught.value.status is status


def test_a_retry_opens_a_fresh_round_and_keeps_the_numbers() -> None:
    failed = finished(accepted(task(failures=0)), Outcome.FAILED).task
    again = rules.retry(failed, now=LATER, rank=5)
    assert (again.status, again.round, again.rank, again.ready_at) == (TaskStatus.QUEUED, 2, 5, LATER)
    assert (again.attempt_no, again.failures, again.result_attempt, again.finished_at) == (1, 0, None, None)


@pytest.mark.parametrize("status", [status for status in TaskStatus if not status.can_retry])
def test_only_what_ended_badly_is_retried(status: TaskStatus) -> None:
    with pytest.raises(rules.NotAllowed, match="cannot be retried"):
        rules.retry(task(status=status), now=NOW, rank=0)


def test_every_change_raises_the_version() -> None:
    step, last = claimed(), WAITING.version
    for row in (step.task, accepted().task, finished(accepted(), Outcome.SUCCESS).task):
        assert row.version > last
        last = row.version


def test_a_transition_nobody_listed_is_a_defect_with_its_story() -> None:
    with pytest.raises(rules.IllegalTransition, match="success -> queued"):
        rules._move(task(status=TaskStatus.SUCCESS), "lose", TaskStatus.QUEUED)


# --- the server's own deadlines -------------------------------------------------------------------------------


@pytest.mark.parametrize(("timeout_s", "limit_s"), [(1, 7.0), (50, 56.0), (300, 311.0), (86_400, 88_133.0)])
def test_a_device_has_its_time_limit_its_tolerance_and_a_margin(timeout_s: int, limit_s: float) -> None:
    running = accepted(task(timeout_s=timeout_s))
    assert rules.time_left_s(*pair(running), now=NOW) == limit_s
    assert rules.time_left_s(*pair(running), now=NOW + timedelta(seconds=limit_s + 2)) == -2


def test_an_attempt_accepted_in_the_future_has_no_more_than_its_whole_time() -> None:
    assert rules.time_left_s(*pair(accepted()), now=NOW - timedelta(days=3650)) == 311


def test_what_does_not_run_has_no_time_limit_yet_or_any_more() -> None:
    assert rules.time_left_s(*pair(claimed()), now=NOW) is None
    assert rules.time_left_s(*pair(lost(accepted())), now=NOW) is None


@pytest.mark.parametrize("policy", DeviceLossPolicy)
def test_what_a_device_did_not_stop_in_time_is_over_without_another_try(policy: DeviceLossPolicy) -> None:
    step = rules.overrule(*pair(accepted(task(on_device_loss=policy, max_retries=3))), now=LATER)
    assert step is not None
    assert (step.task.status, step.attempt.outcome) == (TaskStatus.TIMEOUT, Outcome.TIMEOUT)
    assert (step.attempt.reason, step.attempt.confirmed) == ("the agent did not stop it", False)
    assert step.task.finished_at == LATER


def test_a_cancel_that_a_device_did_not_obey_is_a_cancel_without_confirmation() -> None:
    running = accepted()
    asked = rules.cancel(running.task, by="ann", now=NOW)
    step = rules.overrule(asked, running.attempt, now=LATER)
    assert step is not None
    assert (step.task.status, step.attempt.outcome, step.attempt.confirmed) == (
        TaskStatus.CANCELLED,
        Outcome.CANCELLED,
        False,
    )


def test_only_what_a_device_accepted_and_still_runs_is_overruled() -> None:
    assert rules.overrule(*pair(claimed()), now=LATER) is None
    over = finished(accepted(), Outcome.SUCCESS)
    assert rules.overrule(*pair(over), now=LATER) is None
