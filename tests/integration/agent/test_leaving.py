"""A device that leaves, against a gateway of a few lines: what it says, and what it takes for an answer."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from retire_cluster.agent.errors import AgentExit, ExitCode
from retire_cluster.agent.purposes import LEAVING, NO_ANSWER, Joiner, Leaver, NotReached
from retire_cluster.protocol.messages import Error, Goodbye, Leave, Register, Result
from tests.integration.agent.fake_gateway import FakeGateway, gateway, run, task, until
from tests.integration.agent.harness import agent, settings


def leaver(directory: Path, *servers: FakeGateway, **timing: float) -> Leaver:
    return Leaver(settings(directory, *(server.port for server in servers), timing=timing))


async def joined(directory: Path, server: FakeGateway) -> None:
    """The device has joined, and its agent has ended."""
    await Joiner(settings(directory, server.port)).run()


async def answer(server: FakeGateway, message: Any) -> None:
    """Say something once the device asked to leave."""
    await server.next(Leave)
    await server.send(message)


def test_it_takes_no_task_and_is_over_with_the_gateways_word(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            await joined(tmp_path, server)
            saying = asyncio.create_task(answer(server, Goodbye(code="left")))
            with pytest.raises(AgentExit) as ending:
                await leaver(tmp_path, server).run()
            await saying
            assert ending.value.code == ExitCode.STOPPED
            assert server.all(Register)[-1].paused_reason == LEAVING

    run(scenario)


def test_results_that_wait_are_delivered_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.acknowledges = False
            done = task()
            async with agent(tmp_path, server):
                await server.joined()
                await server.send(done)
                await server.result(done.attempt)
            server.acknowledges = True
            saying = asyncio.create_task(answer(server, Goodbye(code="left")))
            with pytest.raises(AgentExit):
                await leaver(tmp_path, server).run()
            await saying
            said = [type(message) for message in server.received]
            assert said.index(Leave) > len(said) - 1 - said[::-1].index(Result)
            assert len(server.all(Result)) == 2

    run(scenario)


def test_a_gateway_that_takes_no_result_does_not_hold_it_for_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            server.acknowledges = False
            done = task()
            async with agent(tmp_path, server):
                await server.joined()
                await server.send(done)
                await server.result(done.attempt)
            saying = asyncio.create_task(answer(server, Goodbye(code="left")))
            with pytest.raises(AgentExit):
                await leaver(tmp_path, server, deliver_s=0.1).run()
            await saying
            assert len(server.all(Leave)) == 1

    run(scenario)


def test_an_older_gateway_does_not_confirm(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            await joined(tmp_path, server)
            saying = asyncio.create_task(answer(server, Error(reason="unknown message type")))
            with pytest.raises(NotReached, match="older version") as ending:
                await leaver(tmp_path, server, leave_s=0.2).run()
            await saying
            assert NO_ANSWER in str(ending.value)

    run(scenario)


@pytest.mark.parametrize("code", ["revoked", "unknown_device"])
def test_a_device_the_cluster_does_not_have_any_more_has_left(tmp_path: Path, code: Any) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            await joined(tmp_path, server)
            server.refuse = Goodbye(code=code)
            with pytest.raises(AgentExit) as ending:
                await leaver(tmp_path, server).run()
            assert ending.value.code == ExitCode.STOPPED

    run(scenario)


def test_a_wrong_secret_is_a_refusal(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            await joined(tmp_path, server)
            server.known["nuc"] = "another"
            with pytest.raises(AgentExit) as ending:
                await leaver(tmp_path, server).run()
            assert ending.value.code == ExitCode.REFUSED

    run(scenario)


def test_the_next_gateway_is_asked_and_then_it_gives_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as dead, gateway() as server:
            await joined(tmp_path, server)
            await dead.stop()
            saying = asyncio.create_task(answer(server, Goodbye(code="left")))
            with pytest.raises(AgentExit):
                await leaver(tmp_path, dead, server).run()
            await saying
            await server.stop()
            with pytest.raises(NotReached, match="refused"):
                await leaver(tmp_path, dead, server).run()
            await until(lambda: len(server.all(Leave)) == 1, "one leave")
            await dead.start()
            await server.start()

    run(scenario)


def test_a_leave_can_be_stopped_while_it_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with gateway() as server:
            await joined(tmp_path, server)
            leaving = leaver(tmp_path, server)
            running = asyncio.create_task(leaving.run())
            await server.next(Leave)
            leaving.stop()
            await running
            assert [found for found in asyncio.all_tasks() if "_depart" in repr(found)] == []
            assert (tmp_path / "agent" / "agent.json").exists()

    run(scenario)
