import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.agent import workbench as module
from retire_cluster.agent.config import Timing
from retire_cluster.agent.execution.handlers import echo, sleep
from retire_cluster.agent.outbox import Outbox, OutboxError
from retire_cluster.agent.workbench import Workbench
from retire_cluster.protocol import codec
from retire_cluster.protocol.messages import (
    Accepted,
    Assign,
    Cancel,
    Capabilities,
    Declined,
    Go,
    Held,
    Message,
    Register,
    Result,
    ResultAck,
    Stop,
    Stopped,
)
from retire_cluster.protocol.states import HeldState, Outcome, Platform, Verdict

A, B, C = (digit * 32 for digit in "abc")


class FlakyOutbox(Outbox):
    """Counts transactions and syncs; fails while `broken`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.broken = False
        self.commits = 0
        self.failures = 0
        self.syncs = 0
        self.looks = 0  # times that nothing was unacknowledged when it was looked at

    def apply(self, writes: Any) -> None:
        if self.broken:
            self.failures += 1
            raise OutboxError("the disk is full")
        self.commits += 1
        super().apply(writes)

    def needs_sync(self) -> bool:
        self.looks += 1
        return super().needs_sync()

    def sync(self) -> None:
        self.syncs += 1
        super().sync()


class Bench:
    def __init__(self, directory: Path) -> None:
        self.outbox = FlakyOutbox(directory)
        self.sent: list[Message] = []
        handlers = {"echo": echo, "sleep": sleep}
        self.workbench = Workbench(self.outbox, handlers, 2, Timing(sync_s=0.01), directory / "work")
        self.workbench.attach(self.sent.append)

    def receive(self, *messages: Message) -> None:
        self.workbench.receive(messages)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    def results(self) -> list[Result]:
        return [message for message in self.sent if isinstance(message, Result)]


def drive(tmp_path: Path, scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        bench = Bench(tmp_path)
        chores = asyncio.create_task(bench.workbench.maintain())
        try:
            await scenario(bench)
        finally:
            chores.cancel()
            await asyncio.gather(chores, return_exceptions=True)
            await bench.workbench.end_work()
            bench.outbox.close()

    asyncio.run(run())


def assign(attempt: str, task_type: str = "echo", payload: str = "{}", **extra: Any) -> Assign:
    return Assign(attempt=attempt, task=A, task_type=task_type, payload_json=payload, timeout_s=60.0, **extra)


LONG = '{"duration": 60}'


def test_a_frame_of_tasks_is_one_transaction_and_so_are_their_results(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.receive(assign(A), assign(B))
        assert bench.outbox.commits == 1
        await bench.until(lambda: len(bench.results()) == 2)
        assert bench.outbox.commits == 2
        bench.receive(*(ResultAck(attempt=a, verdict=Verdict.RECORDED) for a in (A, B)))
        assert bench.outbox.commits == 3
        assert bench.workbench.held() == ()

    drive(tmp_path, scenario)


def test_slots_are_not_overbooked(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.receive(assign(A, "sleep", LONG), assign(B, wait_for_go=True), assign(C))
        assert [type(message) for message in bench.sent] == [Accepted, Accepted, Declined]
        bench.receive(Cancel(attempt=B))
        bench.receive(assign(C))
        assert bench.sent[-1] == Accepted(attempts=(C,))

    drive(tmp_path, scenario)


def test_a_type_that_is_not_offered_is_declined(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.receive(assign(A, "command"))
        assert bench.sent == [Declined(attempt=A, reason="this device does not offer 'command'")]

    drive(tmp_path, scenario)


def test_held_attempts_are_reported_with_their_ages(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.receive(assign(A, "sleep", LONG), assign(B, wait_for_go=True))
        await bench.until(lambda: all(entry.age_s >= 0.02 for entry in bench.workbench.held()))
        held = {entry.attempt: entry for entry in bench.workbench.held()}
        assert held[A].state is HeldState.RUNNING
        assert held[B].state is HeldState.WAITING
        bench.receive(Go(attempts=(B,)))
        await bench.until(lambda: len(bench.results()) == 1)
        assert bench.results()[0].attempt == B

    drive(tmp_path, scenario)


def test_stop_ends_the_work_and_says_only_that(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.receive(assign(A, "sleep", LONG))
        bench.receive(Stop(attempts=(A,)))
        assert bench.sent[-1] == Accepted(attempts=(A,)), "its end is not said before it came"
        await bench.until(lambda: bench.sent[-1] == Stopped(attempts=(A,)))
        assert len(asyncio.all_tasks()) == 2
        assert bench.results() == []

    drive(tmp_path, scenario)


def test_what_ended_without_a_connection_is_sent_with_the_next_one(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.receive(assign(A))
        bench.workbench.detach()
        await bench.until(lambda: [h.state for h in bench.workbench.held()] == [HeldState.FINISHED])
        assert bench.results() == []
        bench.workbench.attach(bench.sent.append)
        assert [result.attempt for result in bench.results()] == [A]

    drive(tmp_path, scenario)


def test_a_full_disk_stops_new_work_keeps_results_and_recovers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(bench: Bench) -> None:
        bench.receive(assign(A, "sleep", '{"duration": 0.02}'))
        bench.outbox.broken = True
        await bench.until(lambda: bench.workbench.paused_reason is not None)
        bench.receive(assign(B))
        (declined,) = (item for item in bench.sent[-1:] if isinstance(item, Declined))
        assert "disk" in declined.reason
        await bench.until(lambda: bench.outbox.failures >= 3)
        assert bench.results() == [], "nothing is sent before it is on disk"
        bench.outbox.broken = False
        await bench.until(lambda: len(bench.results()) == 1)
        assert bench.workbench.paused_reason is None
        bench.receive(assign(B))
        assert bench.sent[-1] == Accepted(attempts=(B,))

    drive(tmp_path, scenario)
    assert caplog.text.count("no new task is taken") == 1


@pytest.mark.parametrize("wait_for_go", [False, True])
def test_a_task_that_meets_a_full_disk_first_is_handed_back_and_not_kept(
    tmp_path: Path, wait_for_go: bool
) -> None:
    async def scenario(bench: Bench) -> None:
        bench.outbox.broken = True
        order = replace(assign(A), wait_for_go=wait_for_go)
        bench.receive(order, Go(attempts=(A,)), Cancel(attempt=B))
        (declined,) = bench.sent
        assert isinstance(declined, Declined)
        assert (declined.attempt, "disk" in declined.reason) == (A, True)
        assert A not in [entry.attempt for entry in bench.workbench.held()]
        bench.outbox.broken = False
        await bench.until(lambda: bench.workbench.paused_reason is None)
        bench.receive(assign(A))
        assert bench.sent[-1] == Accepted(attempts=(A,)), "it may come again"
        await bench.until(lambda: A in [result.attempt for result in bench.results()])

    drive(tmp_path, scenario)


def test_a_disk_with_nothing_to_write_is_tried_until_it_works(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.outbox.broken = True
        bench.receive(assign(A))
        await bench.until(lambda: bench.outbox.failures >= 3)
        assert bench.workbench.paused_reason is not None
        bench.outbox.broken = False
        await bench.until(lambda: bench.workbench.paused_reason is None)
        assert bench.outbox.records() == []

    drive(tmp_path, scenario)


def test_an_owners_pause_declines_with_its_reason_and_leaves_alone_what_runs(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.receive(assign(A, "sleep", LONG))
        bench.workbench.pause("battery at 15 %")
        bench.receive(assign(B))
        assert bench.sent[1:] == [Declined(attempt=B, reason="battery at 15 %")]
        assert [entry.state for entry in bench.workbench.held()] == [HeldState.RUNNING]
        bench.workbench.pause(None)
        bench.receive(assign(B))
        assert bench.sent[-1] == Accepted(attempts=(B,))

    drive(tmp_path, scenario)


def test_every_reason_to_pause_is_told_and_each_change_is_news(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        told: list[str | None] = []
        bench.workbench.attach(bench.sent.append, lambda: told.append(bench.workbench.paused_reason))
        bench.workbench.pause("temperature 90 °C")
        bench.outbox.broken = True
        bench.receive(Cancel(attempt=A))
        bench.workbench.pause(None)
        bench.outbox.broken = False
        await bench.until(lambda: bench.workbench.paused_reason is None)
        disk = "the device cannot write to its disk: the disk is full"
        assert told == ["temperature 90 °C", f"{disk}; temperature 90 °C", disk, None]

    drive(tmp_path, scenario)


def test_reasons_too_long_for_a_message_are_cut(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.workbench.pause("x" * 600)
        assert bench.workbench.paused_reason == "x" * 500

    drive(tmp_path, scenario)


def test_a_cancel_kills_even_while_the_disk_is_full(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.receive(assign(A, "sleep", LONG))
        bench.outbox.broken = True
        bench.receive(Stop(attempts=(A,)))
        await bench.until(lambda: len(asyncio.all_tasks()) == 2)
        bench.outbox.broken = False
        await bench.until(lambda: Stopped(attempts=(A,)) in bench.sent)

    drive(tmp_path, scenario)


def test_only_what_stays_unacknowledged_is_forced_to_the_medium(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.receive(Cancel(attempt=A), ResultAck(attempt=A, verdict=Verdict.RECORDED))
        await bench.until(lambda: bench.outbox.looks == 1)
        assert bench.outbox.syncs == 0
        bench.receive(Cancel(attempt=B))
        await bench.until(lambda: bench.outbox.syncs == 1)

    drive(tmp_path, scenario)


def test_an_agent_that_leaves_takes_nothing_new(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.receive(assign(A, "sleep", LONG))
        await bench.workbench.end_work()
        bench.receive(assign(B))
        assert bench.sent[-1] == Declined(attempt=B, reason="the agent is stopping")
        assert bench.results() == []

    drive(tmp_path, scenario)


def test_an_unknown_result_is_kept_as_evidence(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.receive(assign(A))
        await bench.until(lambda: len(bench.results()) == 1)
        bench.receive(ResultAck(attempt=A, verdict=Verdict.UNKNOWN))
        assert bench.results()[0].outcome is Outcome.SUCCESS
        assert (tmp_path / "rejected" / f"{A}.json").exists()

    drive(tmp_path, scenario)


def test_what_an_agent_may_hold_fits_into_its_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_HELD", 3)

    async def scenario(bench: Bench) -> None:
        bench.receive(assign(A), assign(B))
        await bench.until(lambda: len(bench.results()) == 2)
        bench.receive(assign(C, "sleep", LONG))
        bench.receive(assign("d" * 32))
        (declined,) = [message for message in bench.sent if isinstance(message, Declined)]
        assert "3 attempts are held" in declined.reason
        bench.receive(ResultAck(attempt=A, verdict=Verdict.RECORDED))
        bench.receive(assign("d" * 32))
        assert bench.sent[-1] == Accepted(attempts=("d" * 32,))

    drive(tmp_path, scenario)


def test_the_largest_registration_fits_into_the_first_frame() -> None:
    held = tuple(
        Held(attempt=f"{number:032x}", state=HeldState.FINISHED, age_s=99_999_999.9)
        for number in range(module.MAX_HELD)
    )
    register = Register(
        protocol=1,
        device_id="x" * 64,
        run_id=A,
        agent_version="x" * 20,
        capabilities=Capabilities(
            platform=Platform.LINUX, hostname="x" * 64, unknown={f"fact_{n}": "x" * 100 for n in range(16)}
        ),
        secret="x" * 68,
        tags=tuple(f"a-rather-long-tag-{n}" for n in range(32)),
        task_types=tuple(f"a.rather.long.type.{n}" for n in range(50)),
        held=held,
    )
    (frame,) = codec.encode([register])
    assert len(frame) <= codec.MAX_FIRST_FRAME_BYTES
