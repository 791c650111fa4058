"""An executor with real processes, and a look at what they leave behind."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from retire_cluster.agent.execution.children import shim
from retire_cluster.agent.execution.executor import Executor
from retire_cluster.agent.execution.feed import Feed
from retire_cluster.agent.execution.handlers import Handler, builtin
from retire_cluster.agent.metrics import boot_clock
from retire_cluster.protocol.messages import Assign, Capabilities, Message, Metrics, Result
from retire_cluster.protocol.states import Platform
from tests.integration.agent.fake_gateway import new_id, until


async def snapshot() -> tuple[Capabilities, Metrics]:
    return Capabilities(platform=Platform.LINUX), Metrics()


class Workplace:
    def __init__(self, directory: Path, custom: Mapping[str, Handler] | None = None, **settings: Any) -> None:
        self.directory = directory
        self.results: dict[str, Result] = {}
        self.stopped: list[str] = []
        handlers = builtin(snapshot, **settings) | dict(custom or {})
        self.said: list[Message] = []
        self.feed = Feed(self.said.append)
        self.turned = 0.0  # seconds its clock was put forward
        self.executor = Executor(
            handlers,
            self._keep,
            self.stopped.append,
            directory,
            self.feed,
            lambda: boot_clock() + self.turned,
        )

    def _keep(self, result: Result) -> None:
        self.results[result.attempt] = result

    def start(self, task_type: str, payload: Any, timeout_s: float = 60.0) -> str:
        attempt = new_id()
        self.executor.start(
            Assign(
                attempt=attempt,
                task=attempt,
                task_type=task_type,
                payload_json=json.dumps(payload),
                timeout_s=timeout_s,
            )
        )
        return attempt

    async def result(self, attempt: str) -> Result:
        """The attempt's result; nothing of it may be left by then."""
        await until(lambda: attempt in self.results, f"result of {attempt}")
        assert shim.marked(attempt) == [], "a process of it still runs"
        await self.tidy(attempt)
        return self.results[attempt]

    @staticmethod
    def value(result: Result) -> Any:
        """What the task returned."""
        assert result.result_json is not None, result
        return json.loads(result.result_json)

    async def tidy(self, attempt: str) -> None:
        await until(lambda: not (self.directory / attempt).exists(), "its directory is removed")

    async def begun(self, file: Path) -> str:
        """What the task wrote to the file, once it did."""
        found: str = await until(
            lambda: file.exists() and file.read_text().endswith("\n"), f"{file} is written"
        )
        return file.read_text().strip() if found else ""


def at(directory: Path, scenario: Callable[[Workplace], Awaitable[None]], **settings: Any) -> None:
    """Run the scenario at a workplace, which is closed afterwards."""

    async def run() -> None:
        place = Workplace(directory / "work", **settings)
        try:
            await scenario(place)
        finally:
            await place.executor.close()

    asyncio.run(run())


def outcome(
    directory: Path, task_type: str, payload: Any, timeout_s: float = 60.0, **settings: Any
) -> Result:
    """How one task ends."""
    found: list[Result] = []

    async def scenario(place: Workplace) -> None:
        found.append(await place.result(place.start(task_type, payload, timeout_s)))

    at(directory, scenario, **settings)
    return found[0]


def is_alive(pid: int) -> bool:
    return pid in shim.parents()
