"""The life cycle keeps its promises in every order of events; see model.py. Without Django, without a clock."""

import pytest

from retire_cluster.protocol.states import DeviceLossPolicy, TaskStatus
from tests.unit.tasks import model
from tests.unit.tasks.model import DEADLINES, FAIL, QUICK, REQUEUE, Budget, Work


@pytest.mark.parametrize(("policy", "budget"), QUICK, ids=str)
def test_every_order_keeps_the_promises_and_settles(policy: DeviceLossPolicy, budget: Budget) -> None:
    explored = model.explore(model.initial(policy, budget))
    model.check_settling(explored)

    assert explored.states > 300
    wanted = {TaskStatus.SUCCESS, TaskStatus.FAILED}
    if budget.cancels:
        wanted.add(TaskStatus.CANCELLED)
    assert wanted <= explored.ends


@pytest.mark.parametrize(("policy", "budget", "work"), DEADLINES, ids=str)
def test_deadlines_keep_the_promises_and_settle_whatever_the_device_does(
    policy: DeviceLossPolicy, budget: Budget, work: Work
) -> None:
    explored = model.explore(model.initial(policy, budget, work))
    model.check_settling(explored)

    assert TaskStatus.TIMEOUT in explored.ends or not budget.overruns
    assert any(state.overruled for state in explored.parents) == bool(budget.verdicts)


@pytest.mark.parametrize("work", ["hangs", "defies"])
def test_without_anybody_s_help_work_that_never_ends_times_out(work: Work) -> None:
    """Calm: no fault, no cancel. A device that obeys is told and ends it; one that defies is overruled."""
    explored = model.explore(model.initial(REQUEUE, Budget(beats=0), work))
    assert explored.ends == set()
    ends = {model.settle(state) for state in explored.parents}
    assert {state.task.status for state in ends} == {TaskStatus.TIMEOUT}
    assert all(bool(state.overruled) == (work == "defies") for state in ends)


@pytest.mark.parametrize("policy", [REQUEUE, FAIL])
def test_without_faults_a_task_runs_once_and_ends(policy: DeviceLossPolicy) -> None:
    explored = model.explore(model.initial(policy, Budget(beats=0)))

    assert explored.ends == {TaskStatus.SUCCESS, TaskStatus.FAILED}
    assert {len(state.started) for state in explored.parents if model.settled(state)} == {1}


def test_the_faults_are_really_there() -> None:
    """The quick form meets a lost device, a late result, an adoption and a second round."""
    found: set[str] = set()
    for policy, budget in ((REQUEUE, Budget(expiries=1)), (FAIL, Budget(expiries=1, retries=1))):
        for state, way in model.explore(model.initial(policy, budget)).parents.items():
            found.update("lost" for row in state.attempts if row.outcome == "lost")
            found.update("late" for row in state.attempts if row.late)
            found.update("second round" for row in state.attempts if row.round == 2)
            before = {row.id for row in way[0].attempts if not row.live} if way else set()
            found.update("adopted" for row in state.attempts if row.live and row.id in before)
    assert found == {"lost", "late", "adopted", "second round"}
