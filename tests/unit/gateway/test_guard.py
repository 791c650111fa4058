"""What strangers and devices may do in a while: connections, failed joins, frames, bytes, rows, log lines."""

import pytest

from retire_cluster.gateway import budget, guard
from retire_cluster.gateway.budget import ALLOWANCES, Budget, Budgets
from retire_cluster.gateway.complaints import CULPRITS_KEPT, LINES_A_MINUTE, Complaints
from retire_cluster.gateway.guard import MAX_FAILED_JOINS, MAX_UNREGISTERED, Guard
from retire_cluster.protocol import messages as wire
from retire_cluster.protocol.codec import BadFrame
from retire_cluster.protocol.states import HeldState, Outcome

HERE, THERE = "192.0.2.1", "192.0.2.2"
ID = "0" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- connections and joins ------------------------------------------------------------------------------------


def test_an_address_has_so_many_sockets_that_did_not_register() -> None:
    door = Guard()
    for _ in range(MAX_UNREGISTERED):
        assert door.admits(HERE) is None
        door.entered(HERE)
    assert f"{MAX_UNREGISTERED} connections" in (door.admits(HERE) or "")
    assert door.admits(THERE) is None
    door.left(HERE)
    assert door.admits(HERE) is None


def test_the_eleventh_join_of_a_minute_that_could_fail_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, door = Clock(), Guard()
    monkeypatch.setattr(guard, "time", type("Time", (), {"monotonic": staticmethod(clock)}))
    for _ in range(MAX_FAILED_JOINS):
        assert door.admits(HERE) is None
        door.failed(HERE)
    assert "wait a minute" in (door.admits(HERE) or "")
    assert door.admits(THERE) is None
    clock.now += 61
    assert door.admits(HERE) is None


# --- budgets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALLOWANCES)
def test_a_burst_is_paid_from_what_was_saved_and_a_debt_by_waiting(name: str) -> None:
    allowance, account = ALLOWANCES[name], Budget(0.0)
    assert account.spend(0.0, **{name: int(allowance.at_once)}) is None
    assert f"{allowance.per_s:,.0f} {name} a second" in (account.spend(0.0, **{name: 1}) or "")
    assert account.spend(1.0, **{name: int(3 * allowance.per_s)}) is None  # up to any debt, once
    assert account.spend(2.9, **{name: 1}) is not None
    assert account.spend(3.1, **{name: 1}) is None


def test_who_keeps_to_the_average_is_never_cut_off() -> None:
    account = Budget(0.0)
    for second in range(1000):
        for name, allowance in ALLOWANCES.items():
            assert account.spend(float(second), **{name: int(allowance.per_s)}) is None


def test_nothing_is_saved_beyond_a_burst() -> None:
    account = Budget(0.0)
    assert account.spend(1e9, frames=int(ALLOWANCES["frames"].at_once)) is None
    assert account.spend(1e9, frames=1) is not None


def test_an_account_outlives_its_connections_and_is_nobody_else_s() -> None:
    budgets = Budgets()
    assert budgets.of("a") is budgets.of("a")
    assert budgets.of("a") is not budgets.of("b")


def test_the_account_unused_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "DEVICES_KEPT", 2)
    budgets = Budgets()
    first, second = budgets.of("a"), budgets.of("b")
    assert budgets.of("a") is first
    budgets.of("c")
    assert budgets.of("a") is first
    assert budgets.of("b") is not second


def test_rows_are_messages_or_the_attempts_they_name() -> None:
    held = (wire.Held(attempt=ID, state=HeldState.RUNNING),) * 5
    messages = [
        wire.Heartbeat(),
        wire.Heartbeat(held=held),
        wire.Stopped(attempts=(ID,) * 3),
        wire.Result(attempt=ID, outcome=Outcome.SUCCESS),
        wire.Ping(nonce=ID),
    ]
    assert [budget.rows_in([message]) for message in messages] == [1, 5, 3, 1, 1]
    assert budget.rows_in(messages) == 11


def test_a_frame_names_no_more_attempts_than_agents_hold() -> None:
    most: list[wire.Message] = [wire.Stopped(attempts=(ID,) * 4096)] * 4
    assert budget.within_frame(most) == most
    with pytest.raises(BadFrame, match="16,384"):
        budget.within_frame([*most, wire.Ping(nonce=ID)])


# --- complaints -----------------------------------------------------------------------------------------------


def test_a_culprit_has_some_lines_a_minute_and_then_a_count(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    complaints = Complaints(clock)
    for _ in range(LINES_A_MINUTE + 80):
        complaints.log("mallory", "%s lies", "mallory", action="lie")
    complaints.log("alice", "%s errs", "alice", action="err")
    said = [record.getMessage() for record in caplog.records]
    assert said.count("mallory lies") == LINES_A_MINUTE
    assert said[-2:] == ["no more about mallory for a minute", "alice errs"]
    assert caplog.records[0].__dict__["action"] == "lie"
    caplog.clear()
    clock.now += 60
    complaints.log("mallory", "%s lies", "mallory", action="lie")
    assert [record.getMessage() for record in caplog.records] == [
        "80 more about mallory were left out",
        "mallory lies",
    ]


def test_many_culprits_need_no_more_memory_than_some(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
    complaints = Complaints(Clock())
    for number in range(CULPRITS_KEPT + 10):
        complaints.log(str(number), "x", action="x")
    assert len(complaints._counts) == CULPRITS_KEPT
