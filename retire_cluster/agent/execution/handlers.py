"""What the agent can run: one handler per task type."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Protocol

from retire_cluster.agent.execution import processes
from retire_cluster.agent.execution.work import Work
from retire_cluster.protocol.messages import Capabilities, Metrics
from retire_cluster.protocol.tasktypes import BUILTIN_TYPES, HARMLESS_TYPES

Snapshot = Callable[[], Awaitable[tuple[Capabilities, Metrics]]]


class Handler(Protocol):
    """Runs one task: payload in, result out. Cancelling the call ends the work."""

    async def __call__(self, payload: dict[str, Any], work: Work) -> Any:
        """Return the result, any JSON value. Raises TaskError; any other exception fails the task too."""


async def echo(payload: dict[str, Any], work: Work) -> Any:
    """Return the payload."""
    return {"echo": payload}


async def sleep(payload: dict[str, Any], work: Work) -> Any:
    """Wait `duration` seconds (1.0)."""
    duration = payload.get("duration")
    duration = 1.0 if duration is None else duration
    await asyncio.sleep(duration)
    return {"slept_for": duration}


def system_info(snapshot: Snapshot) -> Handler:
    """A handler that tells what the device is and does now."""

    async def run(payload: dict[str, Any], work: Work) -> Any:
        capabilities, metrics = await snapshot()
        return {"capabilities": _with_gigabytes(capabilities), "metrics": _with_gigabytes(metrics)}

    return run


def _with_gigabytes(facts: Capabilities | Metrics) -> dict[str, Any]:
    """The facts as JSON; each figure in MB also in GB (2^30 bytes, one decimal), as the REST API has them."""
    plain = asdict(facts)
    figures = {name: value for name, value in plain.items() if name.endswith("_mb")}
    for name, value in figures.items():
        plain[name.removesuffix("_mb") + "_gb"] = None if value is None else _gigabytes(value)
    return plain


def _gigabytes(megabytes: int) -> float:
    return math.floor(megabytes / 1024 * 10 + 0.5) / 10


def offered_types() -> tuple[str, ...]:
    """The built-in types this platform can run."""
    return BUILTIN_TYPES if processes.is_supported() else HARMLESS_TYPES


def builtin(snapshot: Snapshot, *, allow_private_http: bool = False) -> dict[str, Handler]:
    """The handlers of offered_types(). `allow_private_http` is the owner's consent to the home network."""
    from retire_cluster.agent.execution.command import command
    from retire_cluster.agent.execution.http_request import http_request
    from retire_cluster.agent.execution.python_eval import python_eval

    handlers: dict[str, Handler] = {
        "echo": echo,
        "sleep": sleep,
        "system_info": system_info(snapshot),
        "python_eval": python_eval,
        "http_request": http_request(consent=allow_private_http),
        "command": command,
    }
    return {name: handlers[name] for name in offered_types()}
