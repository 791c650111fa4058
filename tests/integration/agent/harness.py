"""An agent in the test's own loop, with short timings and nothing of this machine but its loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from retire_cluster.agent.address import Address
from retire_cluster.agent.config import AgentConfig, Timing
from retire_cluster.agent.errors import AgentExit
from retire_cluster.agent.host import Host
from retire_cluster.agent.runtime import Runtime
from retire_cluster.protocol.states import HeldState
from tests.integration.agent.fake_gateway import DEADLINE_S, FakeGateway

QUICK: dict[str, Any] = {
    "connect_s": 5.0,
    "first_retry_s": 0.01,
    "longest_retry_s": 0.05,
    "replaced_s": 0.2,
    "farewell_s": 1.0,
}


def settings(directory: Path, *ports: int, **changes: Any) -> AgentConfig:
    timing = Timing(**{**QUICK, **changes.pop("timing", {})})
    given: dict[str, Any] = {
        "token": "a-token",
        "slots": 4,
        "device_id": "nuc",
        "internet_probes": (),
        **changes,
    }
    given.setdefault("join", tuple(Address("127.0.0.1", port) for port in ports))
    return AgentConfig(data_dir=directory, state_dir=directory / "agent", timing=timing, **given)


class Agent:
    """A running Runtime."""

    def __init__(self, config: AgentConfig, host: Host | None = None) -> None:
        self.runtime = Runtime(config, host)
        self.task = asyncio.create_task(self.runtime.run())

    def states(self) -> list[HeldState]:
        """What it holds, as the gateway would be told."""
        return [entry.state for entry in self.runtime._workbench.held()]

    async def stop(self) -> None:
        """Stop gracefully; the run must end without an error."""
        self.runtime.stop()
        async with asyncio.timeout(DEADLINE_S):
            await self.task

    async def crash(self) -> None:
        """Be gone without a word."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def refusal(self) -> AgentExit:
        """The final answer it ends with."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                await self.task
            except AgentExit as ending:
                return ending
        raise AssertionError("the agent ended without a refusal")


@asynccontextmanager
async def agent(
    directory: Path, *gateways: FakeGateway, host: Host | None = None, **changes: Any
) -> AsyncIterator[Agent]:
    """An agent that joins the gateways; stopped at the end if it still runs. `host`: the machine it sees."""
    running = Agent(settings(directory, *(gateway.port for gateway in gateways), **changes), host)
    try:
        yield running
    finally:
        if not running.task.done():
            await running.stop()
