from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from retire_cluster.agent import ledger as module
from retire_cluster.agent.ledger import (
    Drop,
    Forget,
    Instruction,
    Kill,
    Ledger,
    Mark,
    Persist,
    Record,
    Reject,
    Send,
    Start,
)
from retire_cluster.protocol.messages import Accepted, Assign, Declined, Result, Stopped
from retire_cluster.protocol.states import HeldState, Outcome, Verdict

A, B, C = (digit * 32 for digit in "abc")


def assign(attempt: str = A, *, wait_for_go: bool = False) -> Assign:
    return Assign(
        attempt=attempt,
        task="0" * 32,
        task_type="echo",
        payload_json="{}",
        timeout_s=60.0,
        wait_for_go=wait_for_go,
    )


def success(attempt: str = A) -> Result:
    return Result(attempt=attempt, outcome=Outcome.SUCCESS, result_json="1")


def running(attempt: str = A) -> Ledger:
    ledger = Ledger()
    ledger.assign(assign(attempt), refuse=None)
    return ledger


def finished(attempt: str = A) -> Ledger:
    ledger = running(attempt)
    ledger.finished(success(attempt))
    return ledger


def restarted(ledger: Ledger) -> Ledger:
    return Ledger(ledger.records())


ACCEPTED = Send(Accepted(attempts=(A,)))
STOPPED = Send(Stopped(attempts=(A,)))
SEEN = Persist(Record(A, Mark.SEEN))


def test_a_new_attempt_is_journaled_before_it_starts() -> None:
    ledger = Ledger()
    assert ledger.assign(assign(), refuse=None) == [SEEN, Start(assign()), ACCEPTED]
    assert ledger.held() == [(A, HeldState.RUNNING)]
    assert ledger.active == 1


def test_a_refused_attempt_leaves_no_trace() -> None:
    ledger = Ledger()
    assert ledger.assign(assign(), refuse="no slot") == [Send(Declined(attempt=A, reason="no slot"))]
    assert ledger.records() == []
    assert ledger.assign(assign(), refuse=None)[1] == Start(assign())


def test_an_attempt_seen_before_is_answered_even_when_new_ones_are_refused() -> None:
    assert running().assign(assign(), refuse="no slot") == [ACCEPTED]
    assert finished().assign(assign(), refuse="no slot") == [Send(success())]


def test_a_fail_task_starts_on_go_and_once() -> None:
    ledger = Ledger()
    message = assign(wait_for_go=True)
    assert ledger.assign(message, refuse=None) == [SEEN, ACCEPTED]
    assert ledger.held() == [(A, HeldState.WAITING)]
    assert ledger.active == 1
    assert ledger.assign(message, refuse=None) == [ACCEPTED]
    assert ledger.go(A) == [Start(message)]
    assert ledger.go(A) == []
    assert ledger.held() == [(A, HeldState.RUNNING)]


def test_go_for_an_unknown_attempt_does_nothing() -> None:
    assert Ledger().go(A) == []


def test_a_result_is_on_disk_before_it_is_sent_and_held_until_acknowledged() -> None:
    ledger = running()
    assert ledger.finished(success()) == [Persist(Record(A, Mark.DONE, success())), Send(success())]
    assert ledger.held() == [(A, HeldState.FINISHED)]
    assert ledger.active == 0
    assert ledger.connected() == [Send(success())]
    assert ledger.acknowledged(A, Verdict.RECORDED) == [Drop(A)]
    assert ledger.connected() == []
    assert ledger.held() == []


def test_a_superseded_result_is_dropped_and_an_unknown_one_kept_as_evidence() -> None:
    assert finished().acknowledged(A, Verdict.SUPERSEDED) == [Drop(A)]
    assert finished().acknowledged(A, Verdict.UNKNOWN) == [Reject(Record(A, Mark.DONE, success())), Drop(A)]


def test_an_acknowledgement_of_what_is_not_finished_changes_nothing() -> None:
    ledger = running()
    assert ledger.acknowledged(A, Verdict.RECORDED) == []
    assert ledger.held() == [(A, HeldState.RUNNING)]
    assert Ledger().acknowledged(A, Verdict.RECORDED) == []


def test_an_acknowledged_attempt_never_starts_again() -> None:
    ledger = finished()
    ledger.acknowledged(A, Verdict.RECORDED)
    for later in (ledger, restarted(ledger)):
        assert later.assign(assign(), refuse=None) == [STOPPED]
        assert later.cancel(A) == [STOPPED]
        assert later.stop(A) == [STOPPED]


def test_cancel_kills_what_runs_and_its_end_is_reported() -> None:
    ledger = running()
    assert ledger.cancel(A, "user") == [Kill(A, "user")]
    assert ledger.held() == [(A, HeldState.RUNNING)]
    cancelled = Result(attempt=A, outcome=Outcome.CANCELLED)
    assert ledger.finished(cancelled)[-1] == Send(cancelled)


def test_a_success_that_came_before_the_kill_stays_one() -> None:
    ledger = running()
    ledger.cancel(A)
    assert ledger.finished(success())[-1] == Send(success())
    assert ledger.cancel(A) == [Send(success())]


def test_cancel_of_a_waiting_attempt_finishes_it_without_a_start() -> None:
    ledger = Ledger()
    ledger.assign(assign(wait_for_go=True), refuse=None)
    persist, send = ledger.cancel(A)
    assert isinstance(persist, Persist)
    assert persist.record.result is not None
    assert persist.record.result.outcome is Outcome.CANCELLED
    assert send == Send(persist.record.result)
    assert ledger.go(A) == []


def test_a_cancel_that_overtakes_its_assign_wins() -> None:
    ledger = Ledger()
    persist, send = ledger.cancel(A)
    assert isinstance(persist, Persist)
    assert isinstance(send, Send)
    for later in (ledger, restarted(ledger)):
        assert later.assign(assign(), refuse=None) == [send]
        assert later.held() == [(A, HeldState.FINISHED)]


def test_a_cancel_for_timeout_reports_timeout() -> None:
    persist, _ = Ledger().cancel(A, "timeout")
    assert isinstance(persist, Persist)
    assert persist.record.result is not None
    assert persist.record.result.outcome is Outcome.TIMEOUT


def test_stop_kills_and_buries_and_says_so_once_it_is_gone() -> None:
    ledger = running()
    assert ledger.stop(A) == [Kill(A, "stop"), Drop(A)]
    assert ledger.held() == []
    assert ledger.active == 1, "its processes still use the slot"
    assert ledger.stop(A) == [], "it is not gone yet"
    assert ledger.assign(assign(), refuse=None) == []
    assert ledger.finished(success()) == [], "a late end of a stopped attempt is nobody's business"
    assert ledger.gone(A) == [STOPPED]
    assert ledger.active == 0
    assert ledger.gone(A) == [], "once"
    assert ledger.assign(assign(), refuse=None) == [STOPPED]


def test_stop_drops_an_unacknowledged_result() -> None:
    ledger = finished()
    assert ledger.stop(A) == [Drop(A), STOPPED]
    assert ledger.connected() == []


def test_a_stop_that_overtakes_its_assign_wins() -> None:
    ledger = Ledger()
    assert ledger.stop(A) == [Drop(A), STOPPED]
    assert ledger.assign(assign(), refuse=None) == [STOPPED]


def test_after_a_crash_unfinished_attempts_are_neither_held_nor_started() -> None:
    ledger = restarted(running())
    assert ledger.held() == []
    assert ledger.assign(assign(), refuse=None) == []
    assert ledger.go(A) == []
    assert ledger.records() == [Record(A, Mark.SEEN)]


def test_after_a_crash_a_cancel_of_an_unfinished_attempt_is_confirmed() -> None:
    ledger = restarted(running())
    persist, _ = ledger.cancel(A)
    assert isinstance(persist, Persist)
    assert ledger.records() == [persist.record]


def test_after_a_crash_finished_attempts_are_held_and_sent() -> None:
    ledger = restarted(finished())
    assert ledger.held() == [(A, HeldState.FINISHED)]
    assert ledger.connected() == [Send(success())]


def test_tombstones_are_forgotten_in_the_second_rotation() -> None:
    ledger = Ledger()
    ledger.stop(A)
    assert ledger.rotate() == []
    ledger.stop(B)
    assert ledger.rotate() == [Forget((A,))]
    assert ledger.assign(assign(B), refuse=None) == [Send(Stopped(attempts=(B,)))]
    assert ledger.rotate() == [Forget((B,))]
    assert ledger.records() == []


def test_what_still_ends_is_not_forgotten_however_long_it_takes() -> None:
    ledger = Ledger()
    ledger.assign(assign(A), refuse=None)
    ledger.stop(A)
    assert [ledger.rotate() for _ in range(3)] == [[], [], []]
    assert ledger.assign(assign(A), refuse=None) == []
    ledger.gone(A)
    assert ledger.rotate() == [Forget((A,))]


def test_the_number_of_tombstones_is_bounded() -> None:
    ledger = Ledger()
    count = 3 * module.MAX_GENERATION
    for number in range(count):
        ledger.stop(f"{number:032x}")
    assert len(ledger.records()) <= 2 * module.MAX_GENERATION
    newest = f"{count - 1:032x}"
    assert ledger.assign(assign(newest), refuse=None) == [Send(Stopped(attempts=(newest,)))]


# --- any order of events ------------------------------------------------------------------------------------

ATTEMPTS = st.sampled_from([A, B, C])


class LedgerMachine(RuleBasedStateMachine):
    """Any sequence of frames, ends and crashes; the disk does exactly what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.disk: dict[str, Record] = {}
        self.started: set[str] = set()
        self.barred: set[str] = set()  # a cancel or stop was seen
        self.working: set[str] = set()
        self.ending: set[str] = set()  # told to stop, not gone yet
        self.unacknowledged: dict[str, Result] = {}
        self.aged: set[str] = set()  # over since before the last rotation

    def carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Persist(record):
                    self.disk[record.attempt] = record
                case Drop(attempt):
                    self.disk[attempt] = Record(attempt, Mark.OVER)
                    self.unacknowledged.pop(attempt, None)
                case Forget(attempts):
                    for attempt in attempts:
                        assert self.disk.pop(attempt).mark is not Mark.DONE, "forgot a result"
                        assert attempt in self.aged, "forgot too early"
                        self.started.discard(attempt)  # whoever sends it after so long may have it run
                        self.barred.discard(attempt)
                case Start(message):
                    self.start(message.attempt)
                case Kill(attempt, reason):
                    assert attempt in self.working
                    if reason == "stop":
                        self.working.discard(attempt)
                        self.ending.add(attempt)
                case Send(Stopped(attempts=attempts)):
                    assert not {*attempts} & (self.working | self.ending), "said to be gone while it runs"
                case Send(Result() as result):
                    assert self.disk[result.attempt].result == result, "sent before it was on disk"
                    self.unacknowledged[result.attempt] = result

    def start(self, attempt: str) -> None:
        assert attempt not in self.started, "started twice"
        assert attempt not in self.barred, "started after a cancel or stop"
        assert attempt in self.disk, "started before it was journaled"
        self.started.add(attempt)
        self.working.add(attempt)

    @rule(attempt=ATTEMPTS, wait=st.booleans(), refuse=st.sampled_from([None, None, "no slot"]))
    def assign(self, attempt: str, wait: bool, refuse: str | None) -> None:
        self.carry_out(self.ledger.assign(assign(attempt, wait_for_go=wait), refuse=refuse))

    @rule(attempt=ATTEMPTS)
    def go(self, attempt: str) -> None:
        self.carry_out(self.ledger.go(attempt))

    @rule(attempt=ATTEMPTS, timeout=st.booleans())
    def cancel(self, attempt: str, timeout: bool) -> None:
        self.barred.add(attempt)
        self.carry_out(self.ledger.cancel(attempt, "timeout" if timeout else "user"))

    @rule(attempt=ATTEMPTS)
    def stop(self, attempt: str) -> None:
        self.barred.add(attempt)
        self.carry_out(self.ledger.stop(attempt))

    @rule(attempt=ATTEMPTS)
    def finish(self, attempt: str) -> None:
        """The executor may report any attempt, also one that was stopped meanwhile."""
        was_working = attempt in self.working
        self.working.discard(attempt)
        instructions = self.ledger.finished(success(attempt))
        assert bool(instructions) is was_working
        self.carry_out(instructions)

    @rule(attempt=ATTEMPTS)
    def go_away(self, attempt: str) -> None:
        was_ending = attempt in self.ending
        self.ending.discard(attempt)
        instructions = self.ledger.gone(attempt)
        assert bool(instructions) is was_ending
        self.carry_out(instructions)

    @rule(attempt=ATTEMPTS, verdict=st.sampled_from(Verdict))
    def acknowledge(self, attempt: str, verdict: Verdict) -> None:
        self.carry_out(self.ledger.acknowledged(attempt, verdict))

    @rule()
    def reconnect(self) -> None:
        expected = [Send(result) for result in self.unacknowledged.values()]
        sent = self.ledger.connected()
        assert len(sent) == len(expected), "every result is sent again until it is acknowledged"
        assert all(step in expected for step in sent)

    @rule()
    def rotate(self) -> None:
        self.carry_out(self.ledger.rotate())
        self.aged = set(self.disk) - set(dict(self.ledger.held()))

    @rule()
    def crash(self) -> None:
        self.working.clear()
        self.ending.clear()
        self.ledger = Ledger(self.disk.values())

    @invariant()
    def the_disk_is_what_the_ledger_says(self) -> None:
        records = self.ledger.records()
        assert {record.attempt: record for record in records} == self.disk
        assert len(records) == len(self.disk)

    @invariant()
    def held_is_what_works_waits_or_is_unacknowledged(self) -> None:
        held = dict(self.ledger.held())
        assert {a for a, state in held.items() if state is HeldState.RUNNING} == self.working
        assert {a for a, state in held.items() if state is HeldState.FINISHED} == set(self.unacknowledged)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=250, deadline=None)


@given(st.lists(ATTEMPTS, max_size=8))
def test_forgetting_never_touches_what_is_held(stopped: list[str]) -> None:
    ledger = finished(A)
    for attempt in stopped:
        if attempt != A:
            ledger.stop(attempt)
        ledger.rotate()
    assert ledger.held() == [(A, HeldState.FINISHED)]
