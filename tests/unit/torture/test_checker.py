"""The checker condemns every broken promise: a good history passes, and each spoiled one is caught for its own."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from retire_cluster.torture.checker import JUDGES, count, judge
from retire_cluster.torture.history import (
    Asked,
    Capacity,
    Change,
    Execution,
    History,
    OnDisk,
    Outage,
    Seen,
    SeenAttempt,
    StoredAttempt,
    StoredTask,
    Story,
    Trouble,
)

A, B = "a" * 32, "b" * 32  # lease tokens


def printed(attempt: str) -> str:
    return f'{{"stdout": "1.0 {attempt}\\n", "return_code": 0}}'


def first(**changes: Any) -> StoredAttempt:
    """Lost with its device, in the middle of its work."""
    base = StoredAttempt(
        id=A,
        no=1,
        round=1,
        device="ann",
        state="ended",
        outcome="lost",
        offered_at=101.0,
        ended_at=105.0,
    )
    return replace(base, **changes)


def second(**changes: Any) -> StoredAttempt:
    """Did the work on the other device."""
    base = StoredAttempt(
        id=B,
        no=2,
        round=1,
        device="bob",
        state="ended",
        outcome="success",
        offered_at=105.0,
        ended_at=107.0,
        confirmed=True,
        ran_s=1.5,
        result=printed(B),
    )
    return replace(base, **changes)


def run(attempt: str, **changes: Any) -> Execution:
    base = Execution(attempt=attempt, pid=7, started=101.5, last_sign=103.0, ended=False)
    return replace(base, **changes)


def shown(no: int, state: str = "ended", outcome: str = "", number: int = 1) -> SeenAttempt:
    return SeenAttempt(no=no, round=number, device="ann", state=state, outcome=outcome)


def seen(at: float, status: str, *attempts: SeenAttempt, **more: Any) -> Seen:
    return Seen(asked_at=at, answered_at=at + 0.01, status=status, attempts=attempts, **more)


SUBMITTED = Asked(action="submit", sent_at=100.0, answered_at=100.1, code=201, task_id="t1")
LOST_ANSWER = Asked(action="submit", sent_at=99.0)
CANCEL = Asked(action="cancel", sent_at=102.0, answered_at=102.1, code=200)
RETRY = Asked(action="retry", sent_at=110.0, answered_at=110.1, code=200)
END: dict[str, Any] = {"completed_at": "107", "result": printed(B)}
GOOD = Story(
    nonce="1.0",
    task_type="command",
    timeout_s=30,
    asked=(LOST_ANSWER, SUBMITTED),
    seen=(
        seen(100.5, "queued"),
        seen(101.0, "assigned", shown(1, "offered")),
        seen(102.0, "running", shown(1, "running"), device="ann"),
        seen(106.0, "running", shown(1, outcome="lost"), shown(2, "running"), device="bob"),
        seen(108.0, "success", shown(1, outcome="lost"), shown(2, outcome="success"), **END),
        seen(109.0, "success", shown(1, outcome="lost"), shown(2, outcome="success"), **END),
    ),
    row=StoredTask(id="t1", status="success", round=1, finished_at=107.0, result_attempt=B),
    attempts=(first(), second()),
    executions=(run(A), run(B, started=105.1, last_sign=106.9, ended=True)),
)


def changes(*steps: str, id: str = "t1", number: int = 1) -> tuple[Change, ...]:  # noqa: A002
    """The changes along a way of statuses, within one round."""
    return tuple(Change(id=id, old=old, new=new, round=number) for old, new in pairwise(("", *steps)))


def retried(*steps: str) -> tuple[Change, ...]:
    """The changes after a retry of what failed in round 1."""
    return tuple(Change(id="t1", old=old, new=new, round=2) for old, new in pairwise(("failed", *steps)))


LIVED = {name: changes("offered", "running", "ended", id=name) for name in (A, B)}
HISTORY = History(
    number=1,
    lease_s=2,
    stories=(GOOD,),
    changes=(
        *changes("queued", "assigned", "running", "queued", "assigned", "running", "success"),
        *LIVED[A],
        *LIVED[B],
    ),
    capacities=(
        Capacity(device="ann", slots=2, memory_mb=512),
        Capacity(device="bob", slots=2, memory_mb=512),
    ),
    outages=(Outage(device="ann", kind="kill", since=103.0, until=110.0),),
)


def story(**spoiled: Any) -> History:
    """The good history with another story; its changes are kept where they still make sense."""
    return replace(HISTORY, stories=(replace(GOOD, **spoiled),))


def changed(*found: Change) -> History:
    return replace(HISTORY, changes=found)


def row(**changes: Any) -> StoredTask:
    assert GOOD.row is not None
    return replace(GOOD.row, **changes)


def retried_after_cancel(**changes: Any) -> History:
    """A task that was cancelled before it ran and retried, with an attempt offered shortly before the retry."""
    return story(
        asked=(SUBMITTED, CANCEL, RETRY),
        seen=(),
        row=row(round=2, result_attempt=A),
        attempts=(first(offered_at=109.5, outcome="success", ran_s=1.0, result=printed(A), **changes),),
        executions=(run(A),),
    )


def cancelled(**changes: Any) -> History:
    """A task whose user cancelled it while it ran, spoiled by the changes to its only attempt."""
    base: dict[str, Any] = {"outcome": "cancelled", "confirmed": True, "ran_s": 1.0, "ended_at": 103.1}
    return story(
        asked=(SUBMITTED, CANCEL),
        seen=(),
        row=row(status="cancelled", result_attempt=A),
        attempts=(first(**{**base, **changes}),),
        executions=(run(A),),
    )


def timed_out(last_sign: float, **changes: Any) -> History:
    attempt = first(outcome="timeout", ran_s=1.0, confirmed=True, ended_at=last_sign)
    return story(
        timeout_s=1,
        seen=(),
        row=row(status="timeout", result_attempt=A),
        attempts=(replace(attempt, **changes),),
        executions=(run(A, last_sign=last_sign),),
    )


RETRIED = story(
    asked=(SUBMITTED, RETRY),
    seen=(seen(108.0, "failed", completed_at="107"), seen(111.0, "queued")),
    row=row(round=2),
    attempts=(first(outcome="failed", ran_s=1.0), second(round=2)),
)
ONCE = story(at_most_once=True, max_retries=1, attempts=(first(outcome="failed", ran_s=1.0), second()))
LATE = story(attempts=(first(late='{"outcome": "success"}', confirmed=True), second()))

GOOD_HISTORIES = {
    "a device lost, the work done again": HISTORY,
    "a cancel that was confirmed": cancelled(),
    "a cancel while it was queued": story(
        asked=(SUBMITTED, CANCEL),
        seen=(),
        attempts=(),
        executions=(),
        row=row(status="cancelled", result_attempt=""),
    ),
    "a time limit that fired": timed_out(103.0),
    "a time limit late on a device that stood still": replace(
        timed_out(130.0), outages=(Outage(device="ann", kind="stop", since=102.0, until=129.0),)
    ),
    "a retry that the user asked for": replace(
        RETRIED, changes=(*changes("queued", "assigned", "failed"), *retried("queued", "running", "success"))
    ),
    "a result that came back before anybody took the task": changed(
        *changes("queued", "assigned", "queued", "success"),
        *LIVED[A],
        Change(id=A, old="ended", new="running", round=1),
        Change(id=A, old="running", new="ended", round=1),
    ),
    "work that must not repeat, repeated after its own failure": ONCE,
    "a late result kept": LATE,
    "a result on a killed agent's disk that arrived": replace(
        LATE, on_disk=(OnDisk(device="ann", attempt=A, outcome="success"),)
    ),
    "an attempt taken back from the lost": story(
        attempts=(first(outcome="success", ran_s=2.0, result=printed(A)),),
        row=row(result_attempt=A),
        seen=(
            seen(104.0, "running", shown(1, "running")),
            seen(105.0, "queued", shown(1, outcome="lost")),
            seen(106.0, "running", shown(1, "running")),
        ),
        executions=(run(A),),
    ),
}


@pytest.mark.parametrize("history", GOOD_HISTORIES.values(), ids=GOOD_HISTORIES.keys())
def test_a_history_that_keeps_every_promise_passes(history: History) -> None:
    assert judge(history) == []


# promise -> what happened -> the history
BROKEN: dict[str, dict[str, History]] = {
    "I1": {
        "an accepted task is gone": story(row=None, copies=0, attempts=(), executions=(), seen=()),
        "another task is there instead": story(row=row(id="t2"), seen=()),
    },
    "I2": {
        "it runs for ever": story(row=row(status="running", finished_at=None), seen=()),
        "it has no end time": story(row=row(finished_at=None)),
        "no attempt decided": story(row=row(result_attempt="")),
        "an attempt is live beyond the end": story(
            attempts=(first(), second(state="running", ended_at=None)), seen=()
        ),
        "an attempt decided that ended otherwise": story(row=row(result_attempt=A)),
        "an attempt of an earlier round decided": replace(
            RETRIED,
            stories=(replace(RETRIED.stories[0], row=row(round=2, status="failed", result_attempt=A)),),
        ),
        "a change the life cycle does not know": changed(*changes("queued", "running", "assigned")),
        "a task that begins running": changed(*changes("running")),
        "a success opened again": changed(
            *changes("queued", "success"), Change(id="t1", old="success", new="queued", round=2)
        ),
        "a round without a retry's change": changed(Change(id="t1", old="queued", new="assigned", round=2)),
        "an end left within its round": changed(*changes("queued", "failed", "queued")),
        "a round nobody asked for": story(row=row(round=2), attempts=(first(round=2), second(round=2))),
        "a retry that was confirmed and lost": story(asked=(SUBMITTED, RETRY)),
        "it waits for a retry that is not allowed": story(seen=(seen(104.0, "pending"),)),
        "an attempt disappeared": story(
            seen=(seen(104.0, "running", shown(1, "running")), seen(105.0, "queued"))
        ),
        "a reported attempt changed": story(
            max_retries=1,
            seen=(
                seen(104.0, "pending", shown(1, outcome="failed")),
                seen(105.0, "running", shown(1, "running")),
            ),
        ),
    },
    "recorded twice": {
        "two successes": story(
            attempts=(first(outcome="success", ran_s=1.0, result=printed(A)), second()), seen=()
        ),
        "work after a cancel": story(attempts=(first(outcome="cancelled"), second()), seen=()),
        "more failures than retries": story(
            attempts=(
                first(outcome="failed", ran_s=1.0),
                second(outcome="failed", result=""),
            ),
            row=row(status="failed"),
            seen=(),
        ),
        "an end stored twice": changed(
            *changes("queued", "running", "failed", "queued", "running", "failed")
        ),
        "an end stored over another": changed(
            *changes("queued", "running", "success"),
            Change(id="t1", old="success", new="success", round=1),
        ),
        "an end that changed": story(
            seen=(seen(108.0, "failed", completed_at="107"), seen(109.0, "success", **END))
        ),
        "an end that was opened again": story(seen=(seen(108.0, "failed"), seen(109.0, "queued"))),
        "an end time that changed": story(
            seen=(seen(108.0, "success", **END), seen(109.0, "success", **{**END, "completed_at": "108"}))
        ),
        "a result that changed": story(
            seen=(seen(108.0, "success", **END), seen(109.0, "success", **{**END, "result": "1"}))
        ),
        "an end changed by a retry that was refused": story(
            asked=(SUBMITTED, replace(RETRY, sent_at=108.1, answered_at=108.2, code=409)),
            seen=(seen(108.0, "failed"), seen(109.0, "queued")),
        ),
        "an end that is stored otherwise": story(seen=(seen(108.0, "failed"),)),
    },
    "I3": {
        "two attempts at once": story(attempts=(first(ended_at=105.5), second())),
        "two attempts at once by the changes": changed(*LIVED[A][:2], *LIVED[B]),
        "an attempt that never ended before the next": story(attempts=(first(ended_at=None), second())),
        "two live attempts in one answer": story(
            seen=(seen(106.0, "running", shown(1, "running"), shown(2, "offered")),)
        ),
        "a live attempt of an ended task": story(seen=(seen(106.0, "success", shown(1, "running"), **END),)),
        "a result from who lost the lease": story(attempts=(first(), second(result=printed(A)))),
        "a result of another task": story(attempts=(first(), second(result='{"stdout": "1.1 x"}'))),
        "a result that is none": story(attempts=(first(), second(result="{"))),
        "a result that is not what was asked": story(
            expected={"echo": 1}, attempts=(first(), second(result='{"echo": 2}'))
        ),
    },
    "I4": {
        "a result on a disk that never arrived": replace(
            HISTORY, on_disk=(OnDisk(device="ann", attempt=A, outcome="success"),)
        ),
        "a result still on a disk": replace(
            HISTORY, undelivered=(OnDisk(device="ann", attempt=A, outcome="success"),)
        ),
    },
    "I5": {
        "it shows running on a device that is gone": replace(
            story(seen=(seen(115.0, "running", device="ann"),)),
            outages=(Outage(device="ann", kind="kill", since=103.0, until=120.0),),
        ),
        "it shows running even longer than a restart excuses": replace(
            story(seen=(seen(150.0, "running", device="ann"),)),
            outages=(Outage(device="ann", kind="kill", since=103.0, until=160.0),),
            troubles=(Trouble(since=104.0, until=105.0),),
        ),
    },
    "I6": {
        "an attempt after a cancel": cancelled(offered_at=102.5),
        "an attempt after a cancel and before the retry": retried_after_cancel(round=1),
        "work after its confirmed end": cancelled(ended_at=102.4),
        "a process that is left": story(executions=(run(A, is_alive=True), run(B))),
    },
    "I7": {
        "work far beyond its limit": timed_out(130.0),
        "a limit that fired too early": timed_out(101.6, ran_s=0.2),
    },
    "I8": {
        "more slots than there are": story(
            attempts=(first(outcome="success", slots=3, ran_s=1.0, result=printed(A)),),
            seen=(),
            row=row(result_attempt=A),
        ),
        "more memory than there is": replace(
            HISTORY,
            stories=(replace(GOOD, attempts=(first(memory_mb=300), second(device="ann", memory_mb=300))),),
            changes=(*LIVED[A][:2], *LIVED[B], *LIVED[A][2:]),
        ),
    },
    "I11": {
        "two answers to one key": story(asked=(SUBMITTED, replace(SUBMITTED, task_id="t2"))),
        "two tasks of one key": story(copies=2),
    },
    "at most once": {
        "an attempt started twice": story(executions=(run(A), run(A, pid=8), run(B))),
        "an attempt nobody gave": story(executions=(run("c" * 32),)),
        "work repeated that must not be": story(at_most_once=True),
    },
    "answers": {"the server broke": story(asked=(SUBMITTED, replace(CANCEL, code=500)))},
    "settling": {"something never came": replace(HISTORY, unsettled=("ann to be online",))},
}
CASES = [
    pytest.param(promise, history, id=f"{promise}: {what}")
    for promise, found in BROKEN.items()
    for what, history in found.items()
]


@pytest.mark.parametrize(("promise", "history"), CASES)
def test_a_broken_promise_is_found(promise: str, history: History) -> None:
    assert promise in {violation.promise for violation in judge(history)}, judge(history)


def test_every_promise_has_a_history_that_breaks_it() -> None:
    assert set(BROKEN) == {*JUDGES, "I8", "settling"}


@pytest.mark.parametrize(
    ("promise", "number"),
    [(promise, number) for promise, judges in JUDGES.items() for number in range(len(judges))],
    ids=lambda item: str(item),
)
def test_no_judge_could_be_left_out(promise: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it one of the broken promises above would not be found."""
    left = tuple(look for index, look in enumerate(JUDGES[promise]) if index != number)
    monkeypatch.setitem(JUDGES, promise, left)
    missed = [
        what
        for what, history in BROKEN[promise].items()
        if promise not in {violation.promise for violation in judge(history)}
    ]
    assert missed


EXCUSES: dict[str, tuple[str, Callable[[], History]]] = {
    "I3: times of several processes": (
        "I3",
        lambda: replace(BROKEN["I3"]["two attempts at once"], clock_s=1.0),
    ),
    "I5: a restart of the server": (
        "I5",
        lambda: replace(
            BROKEN["I5"]["it shows running on a device that is gone"],
            troubles=(Trouble(since=110, until=111),),
        ),
    ),
    "I5: the device was back": (
        "I5",
        lambda: replace(
            BROKEN["I5"]["it shows running on a device that is gone"],
            outages=(Outage(device="ann", kind="kill", since=103.0, until=114.0),),
        ),
    ),
    "I6: a cancel without an answer": (
        "I6",
        lambda: replace(
            cancelled(offered_at=102.5),
            stories=(
                replace(
                    cancelled(offered_at=102.5).stories[0], asked=(SUBMITTED, replace(CANCEL, code=None))
                ),
            ),
        ),
    ),
    "I6: an attempt of the round that the retry opened, with the time its transaction began at": (
        "I6",
        lambda: retried_after_cancel(round=2),
    ),
    "I6: a device that could not be told": (
        "I6",
        lambda: cancelled(ended_at=102.4, ran_s=None, confirmed=False),
    ),
}


@pytest.mark.parametrize(("promise", "history"), EXCUSES.values(), ids=EXCUSES.keys())
def test_what_the_promise_allows_is_no_violation(promise: str, history: Callable[[], History]) -> None:
    assert promise not in {violation.promise for violation in judge(history())}


def test_executions_beyond_the_first_are_counted_and_failures_are_none() -> None:
    assert count(HISTORY).duplicate_executions == 1
    assert count(HISTORY).executions == 2
    failed_once = story(max_retries=1, attempts=(first(outcome="failed", ran_s=1.0), second()))
    assert count(failed_once).duplicate_executions == 0
    assert count(LATE).late_results == 1
