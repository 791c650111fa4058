import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.agent.execution import executor as module
from retire_cluster.agent.execution.executor import Executor
from retire_cluster.agent.execution.feed import Feed
from retire_cluster.agent.execution.handlers import Handler, builtin
from retire_cluster.agent.execution.work import TaskError, Work
from retire_cluster.protocol import codec
from retire_cluster.protocol.messages import MAX_RESULT_BYTES, Assign, Capabilities, Metrics, Result
from retire_cluster.protocol.states import Outcome, Platform

A = "a" * 32


async def snapshot() -> tuple[Capabilities, Metrics]:
    return Capabilities(platform=Platform.LINUX, memory_total_mb=3789), Metrics(memory_available_mb=100)


class Bench:
    """An executor whose results are collected and whose clock can be turned."""

    def __init__(self, **handlers: Handler) -> None:
        self.results: asyncio.Queue[Result] = asyncio.Queue()
        self.turned = 0.0
        self.stopped: list[str] = []
        known = {**builtin(snapshot), **handlers}
        nowhere = Path("/nonexistent")
        feed = Feed(lambda message: None)
        self.executor = Executor(
            known, self.results.put_nowait, self.stopped.append, nowhere, feed, self.clock
        )

    def clock(self) -> float:
        return asyncio.get_running_loop().time() + self.turned

    def start(self, task_type: str, payload: Any = None, timeout_s: float = 60.0) -> None:
        text = payload if isinstance(payload, str) else json.dumps(payload or {})
        assign = Assign(attempt=A, task=A, task_type=task_type, payload_json=text, timeout_s=timeout_s)
        self.executor.start(assign)

    async def result(self) -> Result:
        async with asyncio.timeout(10):
            return await self.results.get()


def outcome_of(task_type: str, payload: Any = None, timeout_s: float = 60.0, **handlers: Handler) -> Result:
    async def scenario() -> Result:
        bench = Bench(**handlers)
        bench.start(task_type, payload, timeout_s)
        result = await bench.result()
        assert list(codec.decode_from_agent(next(codec.encode([result])))) == [result], "the gateway takes it"
        return result

    return asyncio.run(scenario())


def handler(act: Callable[[], Any]) -> Handler:
    async def run(payload: dict[str, Any], work: Work) -> Any:
        return act()

    return run


def test_echo_returns_the_payload_in_order() -> None:
    result = outcome_of("echo", '{"b": 1.50, "a": [null]}')
    assert result.outcome is Outcome.SUCCESS
    assert result.result_json == '{"echo":{"b":1.5,"a":[null]}}'
    assert result.error_message is None


def test_sleep_tells_how_long_and_how_long_it_ran() -> None:
    began = time.monotonic()
    result = outcome_of("sleep", {"duration": 0.05})
    assert result.result_json == '{"slept_for":0.05}'
    assert 0.05 <= result.ran_s <= time.monotonic() - began


@pytest.mark.parametrize("duration", ["1", True, -0.1, 86_401, []])
def test_a_bad_duration_is_named(duration: object) -> None:
    result = outcome_of("sleep", {"duration": duration})
    assert result.outcome is Outcome.FAILED
    assert "payload.duration" in (result.error_message or "")
    assert result.error_traceback is None


def test_system_info_has_megabytes_and_gigabytes_and_says_what_is_unknown() -> None:
    found = json.loads(outcome_of("system_info").result_json or "")
    assert found["capabilities"]["memory_total_mb"] == 3789
    assert found["capabilities"]["memory_total_gb"] == 3.7
    assert found["capabilities"]["storage_total_gb"] is None
    assert found["metrics"]["memory_available_gb"] == 0.1


@pytest.mark.parametrize("payload", ["[1]", "{", '{"a": NaN}', "7"])
def test_a_payload_that_is_no_object_fails(payload: str) -> None:
    result = outcome_of("echo", payload)
    assert result.outcome is Outcome.FAILED
    assert (result.error_message or "").startswith("payload: ")


def test_an_unknown_type_fails() -> None:
    assert "does not run 'nonsense'" in (outcome_of("nonsense").error_message or "")


def test_a_raising_handler_fails_with_message_and_the_end_of_its_traceback() -> None:
    def work() -> None:
        raise RuntimeError("bad \x00 \ud800 end" + "x" * 5000)

    result = outcome_of("own", own=handler(work))
    assert result.outcome is Outcome.FAILED
    assert (result.error_message or "").startswith("RuntimeError: bad")
    assert len(result.error_message or "") <= module.MAX_MESSAGE
    assert 0 < len(result.error_traceback or "") <= module.MAX_TRACEBACK


def test_a_failed_task_keeps_what_it_leaves_to_look_at() -> None:
    def work() -> None:
        raise TaskError("it ended with code 3", result={"stdout": "half"})

    result = outcome_of("own", own=handler(work))
    assert result.outcome is Outcome.FAILED
    assert result.error_message == "it ended with code 3"
    assert result.error_traceback is None
    assert result.result_json == '{"stdout":"half"}'


def test_a_payloads_own_timeout_counts_when_it_is_shorter() -> None:
    async def own(payload: dict[str, Any], work: Work) -> Any:
        work.limit_time(payload["timeout"])
        await asyncio.Event().wait()

    short = outcome_of("own", {"timeout": 0.05}, own=own)
    assert short.outcome is Outcome.TIMEOUT
    assert "0.05 s" in (short.error_message or "")
    assert outcome_of("own", {"timeout": 50}, timeout_s=0.05, own=own).outcome is Outcome.TIMEOUT


def test_an_oversize_result_fails_and_names_the_limit() -> None:
    result = outcome_of("own", own=handler(lambda: "x" * MAX_RESULT_BYTES))
    assert result.outcome is Outcome.FAILED
    assert str(MAX_RESULT_BYTES) in (result.error_message or "")
    assert outcome_of("own", own=handler(lambda: "x" * (MAX_RESULT_BYTES - 2))).outcome is Outcome.SUCCESS


def test_what_json_cannot_hold_is_replaced_not_lost() -> None:
    result = outcome_of("own", own=handler(lambda: {"n": math.nan, "s": "\x00\ud800", "o": {1, 2}}))
    assert json.loads(result.result_json or "")["n"] == "nan"


def test_a_result_that_cannot_be_written_at_all_fails() -> None:
    assert outcome_of("own", own=handler(lambda: 10**5000)).outcome is Outcome.FAILED


def test_running_past_the_timeout_ends_as_timeout() -> None:
    began = time.monotonic()
    result = outcome_of("sleep", {"duration": 600}, timeout_s=0.05)
    assert result.outcome is Outcome.TIMEOUT
    assert 0.05 <= result.ran_s <= time.monotonic() - began
    assert "0.05 s" in (result.error_message or "")


def drive(scenario: Callable[[Bench], Awaitable[None]], **handlers: Handler) -> None:
    async def run() -> None:
        await scenario(Bench(**handlers))

    asyncio.run(run())


def test_time_spent_in_suspend_counts() -> None:
    async def scenario(bench: Bench) -> None:
        bench.start("sleep", {"duration": 3000}, timeout_s=3600)
        bench.turned = 4000.0  # the boot clock went on, the loop's stood still
        assert (await bench.result()).outcome is Outcome.TIMEOUT

    drive(scenario)


def test_a_cancel_ends_the_work() -> None:
    async def scenario(bench: Bench) -> None:
        bench.start("sleep", {"duration": 30})
        await asyncio.sleep(0)
        bench.executor.kill(A, "user")
        assert (await bench.result()).outcome is Outcome.CANCELLED

    drive(scenario)


def test_a_cancel_before_the_first_step_ends_the_work_too() -> None:
    async def scenario(bench: Bench) -> None:
        bench.start("sleep", {"duration": 30})
        bench.executor.kill(A, "user")
        assert (await bench.result()).outcome is Outcome.CANCELLED

    drive(scenario)


def test_a_success_before_the_kill_stays_one() -> None:
    async def scenario(bench: Bench) -> None:
        bench.start("echo")
        await asyncio.sleep(0)  # it is done, but its end was not noticed yet
        bench.executor.kill(A, "user")
        assert (await bench.result()).outcome is Outcome.SUCCESS

    drive(scenario)


def test_the_first_reason_counts_but_a_stop_silences() -> None:
    async def scenario(bench: Bench) -> None:
        bench.start("sleep", {"duration": 30})
        bench.executor.kill(A, "timeout")
        bench.executor.kill(A, "user")
        assert (await bench.result()).outcome is Outcome.TIMEOUT
        bench.start("sleep", {"duration": 30})
        bench.executor.kill(A, "user")
        bench.executor.kill(A, "stop")
        await bench.executor.close()
        await asyncio.sleep(0)
        assert bench.results.empty()
        assert bench.stopped == [A]

    drive(scenario)


def test_closing_ends_everything_without_a_word() -> None:
    async def scenario(bench: Bench) -> None:
        bench.start("sleep", {"duration": 30})
        await bench.executor.close()
        await asyncio.sleep(0)
        assert bench.results.empty()
        assert len(asyncio.all_tasks()) == 1

    drive(scenario)


def test_a_kill_of_what_does_not_run_is_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        bench.executor.kill(A, "user")
        assert bench.results.empty()

    drive(scenario)
