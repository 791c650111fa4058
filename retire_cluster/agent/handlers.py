"""What the agent can run: one handler per task type."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from retire_cluster.protocol.messages import Capabilities, Metrics

MAX_SLEEP_S = 86_400.0
Snapshot = Callable[[], Awaitable[tuple[Capabilities, Metrics]]]


class PayloadError(Exception):
    """The payload does not fit the task type; names the field and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"payload.{field}: {reason}")


class Handler(Protocol):
    """Runs one task: payload in, result out. Cancelling the call ends the work."""

    async def __call__(self, payload: dict[str, Any]) -> Any:
        """Return the result, any JSON value. Raises PayloadError; any other exception fails the task."""


async def echo(payload: dict[str, Any]) -> Any:
    """Return the payload."""
    return {"echo": payload}


async def sleep(payload: dict[str, Any]) -> Any:
    """Wait `duration` seconds (1.0), 0 to 86400."""
    duration = payload.get("duration", 1.0)
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        raise PayloadError("duration", "must be a number of seconds")
    if not 0 <= duration <= MAX_SLEEP_S:  # also false for NaN
        raise PayloadError("duration", f"must be 0 to {MAX_SLEEP_S:g} seconds")
    await asyncio.sleep(duration)
    return {"slept_for": duration}


def system_info(snapshot: Snapshot) -> Handler:
    """A handler that tells what the device is and does now."""

    async def run(payload: dict[str, Any]) -> Any:
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


BUILTIN_TYPES = ("echo", "sleep", "system_info")


def builtin(snapshot: Snapshot) -> Mapping[str, Handler]:
    """The handlers of BUILTIN_TYPES."""
    return {"echo": echo, "sleep": sleep, "system_info": system_info(snapshot)}
