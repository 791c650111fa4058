import json
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.protocol.codec import MAX_FRAME_BYTES
from retire_cluster.protocol.messages import (
    Accepted,
    Assign,
    Cancel,
    Config,
    Declined,
    Error,
    Go,
    Goodbye,
    Heartbeat,
    Ping,
    Pong,
    Pulse,
    Register,
    Result,
    Stop,
    Stopped,
)
from retire_cluster.protocol.states import HeldState, Outcome
from tests.integration.agent.fake_gateway import FakeGateway, gateway, new_id, run, task, until
from tests.integration.agent.harness import agent

LONG = '{"duration": 600}'


def held_by(register_or_beat: Register | Heartbeat) -> dict[str, HeldState]:
    return {entry.attempt: entry.state for entry in register_or_beat.held}


def test_it_runs_every_builtin_type(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            jobs = [task(payload_json='{"a":1}'), task("sleep", '{"duration":0.01}'), task("system_info")]
            await server.send(*jobs)
            found = [json.loads((await server.result(job.attempt)).result_json or "") for job in jobs]
            assert found[0] == {"echo": {"a": 1}}
            assert found[1] == {"slept_for": 0.01}
            assert found[2]["capabilities"]["cpu_count"] >= 1
            assert "memory_available_mb" in found[2]["metrics"]

    run(scenario)


def test_a_hundred_tasks_all_come_back_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server, slots=100):
            await server.joined()
            jobs = [task(payload_json=json.dumps({"n": number})) for number in range(100)]
            await server.send(*jobs)
            await server.next(Result, 100)
            assert sorted(r.attempt for r in server.all(Result)) == sorted(job.attempt for job in jobs)

    run(scenario)


def test_a_duplicate_assign_runs_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            job = task("sleep", '{"duration":0.05}')
            await server.send(job, job)
            await server.send(job)
            await server.result(job.attempt)
            await server.send(job)
            await server.next(Stopped)
            assert len(server.all(Result)) == 1

    run(scenario)


def test_a_fail_task_waits_for_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            job = task(wait_for_go=True)
            other = task()
            await server.send(job, other)
            await server.result(other.attempt)
            accepted = {attempt for message in server.all(Accepted) for attempt in message.attempts}
            assert accepted == {job.attempt, other.attempt}
            assert [r.attempt for r in server.all(Result)] == [other.attempt]
            await server.send(Go(attempts=(job.attempt,)))
            assert (await server.result(job.attempt)).outcome is Outcome.SUCCESS

    run(scenario)


def test_a_cancel_that_overtakes_its_assign_wins(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            server.acknowledges = False
            job = task()
            await server.send(Cancel(attempt=job.attempt))
            await server.send(job)
            await server.next(Result, 2)
            assert {r.outcome for r in server.all(Result)} == {Outcome.CANCELLED}
            assert server.all(Accepted) == []

    run(scenario)


@pytest.mark.parametrize(("reason", "outcome"), [("user", Outcome.CANCELLED), ("timeout", Outcome.TIMEOUT)])
def test_a_cancel_ends_what_runs(tmp_path: Path, reason: Any, outcome: Outcome) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            job = task("sleep", LONG)
            await server.send(job)
            await server.next(Accepted)
            await server.send(Cancel(attempt=job.attempt, reason=reason))
            assert (await server.result(job.attempt)).outcome is outcome

    run(scenario)


def test_stop_ends_what_runs_and_reports_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server, slots=1):
            await server.joined()
            job, after = task("sleep", LONG), task()
            await server.send(job)
            await server.next(Accepted)
            await server.send(Stop(attempts=(job.attempt,)))
            assert (await server.next(Stopped)).attempts == (job.attempt,)
            await server.send(after)
            await server.result(after.attempt)
            assert [r.attempt for r in server.all(Result)] == [after.attempt]

    run(scenario)


def test_a_timeout_fires(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            job = task("sleep", LONG, timeout_s=0.1)
            await server.send(job)
            result = await server.result(job.attempt)
            assert result.outcome is Outcome.TIMEOUT
            assert result.ran_s >= 0.1

    run(scenario)


def test_what_does_not_fit_is_declined(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server, slots=1, task_types=("sleep",)):
            await server.joined()
            wrong, first, second = task("echo"), task("sleep", LONG), task("sleep", LONG)
            await server.send(wrong, first, second)
            await server.next(Declined, 2)
            reasons = {message.attempt: message.reason for message in server.all(Declined)}
            assert "does not offer 'echo'" in reasons[wrong.attempt]
            assert "1 of 1" in reasons[second.attempt]

    run(scenario)


# --- connections that end -----------------------------------------------------------------------------------


def test_work_goes_on_while_the_gateway_restarts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server) as worker:
            await server.joined()
            long, short, waiting = (
                task("sleep", LONG),
                task("sleep", '{"duration":0.1}'),
                task(wait_for_go=True),
            )
            await server.send(long, short, waiting)
            await until(lambda: sum(len(m.attempts) for m in server.all(Accepted)) == 3, "three accepted")
            await server.stop()
            await until(lambda: HeldState.FINISHED in worker.states(), "the end of the short one")
            await server.start()
            again = await server.joined(2)
            assert held_by(again) == {
                long.attempt: HeldState.RUNNING,
                short.attempt: HeldState.FINISHED,
                waiting.attempt: HeldState.WAITING,
            }
            assert {entry.attempt: entry.age_s >= 0.1 for entry in again.held}[long.attempt]
            assert (await server.result(short.attempt)).outcome is Outcome.SUCCESS
            await server.send(Go(attempts=(waiting.attempt,)))
            assert (await server.result(waiting.attempt)).outcome is Outcome.SUCCESS

    run(scenario)


def test_an_unacknowledged_result_is_sent_on_every_connection_until_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            server.acknowledges = False
            job = task()
            await server.send(job)
            await server.next(Result, 1)
            for count in (2, 3):
                await server.restart()
                assert await server.next(Result, count) == server.all(Result)[0]
            server.acknowledges = True
            await server.restart()
            await server.next(Result, 4)
            await server.restart()
            assert (await server.joined(5)).held == ()

    run(scenario)


def test_results_and_their_ids_survive_a_crash_of_the_agent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.acknowledges = False
            done, lost = task(), task("sleep", LONG)
            async with agent(tmp_path, server) as first:
                await server.joined()
                await server.send(done, lost)
                await server.result(done.attempt)
                await first.crash()
            async with agent(tmp_path, server):
                register = await server.joined(2)
                assert held_by(register) == {done.attempt: HeldState.FINISHED}
                await server.next(Result, 2)
                probe = task("nonsense")
                await server.send(lost, done, probe)
                await server.next(Declined)
                assert [r.attempt for r in server.all(Result)] == [done.attempt] * 3
                assert len([m for m in server.all(Accepted) if lost.attempt in m.attempts]) == 1

    run(scenario)


def test_stopping_hands_running_work_back_and_waits_for_no_timeout(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server, timing={"farewell_s": 3600.0}) as stopped:
            await server.joined()
            await server.send(task("sleep", LONG))
            await server.next(Accepted)
            await stopped.stop()
            assert (await server.next(Goodbye)).code == "stopping"
            assert server.all(Result) == []
            assert len(server.all(Register)) == 1

    run(scenario)


def test_stopping_without_a_connection_waits_for_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        async with gateway() as server:
            await server.stop()
            never = {"longest_retry_s": 3600.0, "first_retry_s": 3600.0, "farewell_s": 3600.0}
            async with agent(tmp_path, server, timing=never) as stopped:
                await until(lambda: "trying again" in caplog.text, "the first failure")
                await stopped.stop()
            await server.start()

    run(scenario)


# --- heartbeats ---------------------------------------------------------------------------------------------


def test_heartbeats_carry_metrics_and_what_is_held(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.interval_s = 0.05
            async with agent(tmp_path, server):
                await server.joined()
                job = task("sleep", LONG)
                await server.send(job)
                await server.next(Accepted)
                seen = len(server.all(Heartbeat))
                beat = await server.next(Heartbeat, seen + 2)
                assert held_by(beat) == {job.attempt: HeldState.RUNNING}
                assert beat.metrics.uptime_s
                assert beat.paused_reason is None

    run(scenario)


def test_a_changed_interval_counts_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            await server.send(Config(version=2, pulse=Pulse(interval_s=0.05, silence_s=10)))
            await server.next(Heartbeat, 3)

    run(scenario)


def test_settings_that_follow_the_welcome_at_once_are_not_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.after_welcome = [Config(version=2, pulse=Pulse(interval_s=0.05, silence_s=10)), task()]
            async with agent(tmp_path, server):
                await server.next(Heartbeat, 3)
                assert len(server.all(Result)) == 1, "work that came with the welcome is done too"

    run(scenario)


def test_a_silent_gateway_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        async with gateway() as server:
            server.interval_s = 0.05
            server.answers_heartbeats = False
            async with agent(tmp_path, server, timing={"silence_margin_s": 0.15}):
                await server.next(Register, 2)
            assert "nothing was heard from the gateway" in caplog.text

    run(scenario)


def test_a_gateway_that_answers_is_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.interval_s = 0.05
            async with agent(tmp_path, server, timing={"silence_margin_s": 0.3}):
                await server.next(Heartbeat, 10)
                assert len(server.all(Register)) == 1

    run(scenario)


def test_a_gateway_that_never_answers_the_registration_is_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.refuse = Error(reason="hm")  # type: ignore[assignment]
            async with agent(tmp_path, server, timing={"welcome_s": 0.05}):
                await server.next(Register, 2)

    run(scenario)


# --- frames that make no sense ------------------------------------------------------------------------------


BAD_ID = '[{"type":"assign","attempt":"x","task":"x","task_type":"echo","payload_json":"{}","timeout_s":1}]'


@pytest.mark.parametrize(
    "frame",
    [
        *("", "{", "[]", "{}", "[1]", '[{"type":"nonsense"}]', '[{"type":"assign"}]', "[" * 5000),
        *(BAD_ID, '["\ud83d"]'),
    ],
)
def test_a_bad_frame_is_answered_and_survived(tmp_path: Path, frame: str) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            await server.send_text(frame.encode(errors="replace").decode())
            nonce = new_id()
            await server.send(Ping(nonce=nonce))
            assert (await server.next(Pong)).nonce == nonce
            assert len(server.all(Error)) == (0 if frame == "[]" else 1)
            assert len(server.all(Register)) == 1

    run(scenario)


def test_nothing_of_a_frame_with_one_bad_message_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            from retire_cluster.protocol import codec

            good = next(iter(codec.encode([task()])))
            await server.send_text(good[:-1] + ',{"type":"go"}]')
            error = await server.next(Error)
            assert error.field == "[1].attempts"
            job = task()
            await server.send(job)
            await server.result(job.attempt)
            assert [r.attempt for r in server.all(Result)] == [job.attempt]

    run(scenario)


def test_a_gateway_that_speaks_only_nonsense_is_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            for _ in range(10):
                await server.send_text("nonsense")
            await server.next(Register, 2)

    run(scenario)


async def send_raw(server: FakeGateway, data: bytes) -> None:
    await server.connections[-1].send(data)


def test_binary_and_oversize_frames_do_not_end_the_agent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            await send_raw(server, b"\x00\xff")
            await server.next(Error)
            await server.send_text('"' + "x" * MAX_FRAME_BYTES + '"')
            await server.next(Register, 2)

    run(scenario)


def test_a_task_type_can_be_anything(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server, agent(tmp_path, server):
            await server.joined()
            odd: Assign = task("\u202e<script>")
            await server.send(odd)
            assert (await server.next(Declined)).attempt == odd.attempt

    run(scenario)


def test_a_defect_costs_the_connection_and_not_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from retire_cluster.agent.vitals import Vitals

    sound = Vitals.metrics
    calls = []

    async def metrics(self: Vitals) -> Any:
        calls.append(1)
        if len(calls) == 2:  # the first heartbeat; the registration asked before
            raise ZeroDivisionError("a defect")
        return await sound(self)

    monkeypatch.setattr(Vitals, "metrics", metrics)

    async def scenario() -> None:
        async with gateway() as server:
            server.interval_s = 0.05
            async with agent(tmp_path, server):
                await server.joined()
                await server.joined(2)
                assert "a defect of this agent ended the connection" in caplog.text

    run(scenario)
