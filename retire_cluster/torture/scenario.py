"""What happens in an episode, drawn from a seed: a few tasks, one to three faults. No I/O, no other chance."""

import random
from dataclasses import dataclass
from typing import Any, Literal

AGENTS = 2  # of an episode
SLOTS = 2  # of an agent
MEMORY_GB = 0.5  # that an agent's tasks may reserve together
BATCH = 8  # tasks at most that a client of a chaos run submits together
LEASE_S = 2  # the term of a lease on the scratch cluster, heartbeats every second

# Faults of an agent's connection, of an agent's process, of the client's connection; as the report lists them.
LINK_FAULTS = (
    "reset",
    "refused for a while",
    "silent both ways",
    "silent towards the server",
    "silent towards the agent",
    "slow",
    "reset amid a frame",
    "reset after processing",
    "frames sent twice",
)
AGENT_FAULTS = ("agent killed", "agent stopped past its lease")
CLIENT_FAULTS = ("answer lost", "request cut off")
SERVER_FAULTS = ("server killed", "server stopped")
FAULTS = (*LINK_FAULTS, *AGENT_FAULTS, *CLIENT_FAULTS)
_WEIGHTS = {
    "agent killed": 3,
    "agent stopped past its lease": 2,
    "answer lost": 3,
    "reset after processing": 3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTask:
    """A task to submit, and what its owner does with it. Times in seconds from the episode's start."""

    at: float
    kind: Literal["echo", "sleep", "python_eval", "command"]
    seconds: float = 0.0  # of work
    exit_code: int = 0  # of a command
    timeout_s: int = 30
    max_retries: int = 0
    at_most_once: bool = False
    memory_gb: float | None = None
    cancel_after: float | None = None
    retries: bool = False  # once, should it end badly
    submits_twice: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """A fault of one agent's (`target`) or of the client's connection, for a while."""

    at: float
    kind: str
    target: int = 0
    seconds: float = 0.0
    amount: int = 0  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One episode's plan."""

    number: int
    tasks: tuple[PlannedTask, ...]
    faults: tuple[PlannedFault, ...]


def draw(seed: int, number: int) -> Scenario:
    """The episode of that number; the same for the same seed, whatever was drawn before."""
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 scenarios, not secrets
    tasks = tuple(_task(chance) for _ in range(chance.randint(2, 4)))
    faults = tuple(_fault(chance) for _ in range(chance.randint(1, 3)))
    return Scenario(number=number, tasks=tasks, faults=faults)


def draw_weather(seed: int, number: int) -> tuple[float, str, float]:
    """The server's fault of that number: seconds to wait before it, its kind, and for how long."""
    chance = random.Random(f"{seed}/server/{number}")  # noqa: S311 scenarios, not secrets
    if chance.random() < 0.7:
        return chance.uniform(7, 17), "server killed", chance.uniform(0, 1.5)
    return chance.uniform(7, 17), "server stopped", chance.uniform(1, 4)


def _task(chance: random.Random) -> PlannedTask:
    kind = chance.choices(("command", "echo", "sleep", "python_eval"), (7, 1, 1, 1))[0]
    if kind != "command":
        return PlannedTask(
            at=chance.uniform(0, 1.5),
            kind=kind,  # type: ignore[arg-type]  # one of the four above
            seconds=chance.uniform(0.1, 1.5),
            cancel_after=_sometimes(chance, 0.15, 0, 1.5),
            submits_twice=chance.random() < 0.2,
        )
    timeout_s, seconds = 30, chance.choice((0, 0.3, chance.uniform(1, 3), chance.uniform(1, 3)))
    cancel_after = _sometimes(chance, 0.25, 0, 3)
    if cancel_after is not None:
        seconds = chance.uniform(1, 5)  # so that the cancel mostly meets work
    elif chance.random() < 0.15:
        timeout_s, seconds = 1, 10
    return PlannedTask(
        at=chance.uniform(0, 1.5),
        kind="command",
        seconds=seconds,
        exit_code=chance.choices((0, 3), (5, 1))[0],
        timeout_s=timeout_s,
        max_retries=chance.choices((0, 1), (2, 1))[0],
        at_most_once=chance.random() < 0.3,
        memory_gb=chance.choice((None, None, 0.2, 0.3)),
        cancel_after=cancel_after,
        retries=chance.random() < 0.3,
        submits_twice=chance.random() < 0.2,
    )


def draw_group(seed: int, number: int) -> tuple[PlannedTask, ...]:
    """What one client of a chaos run submits at once: mostly one task, now and then a batch."""
    chance = random.Random(f"{seed}/group/{number}")  # noqa: S311 scenarios, not secrets
    size = 1 if chance.random() < 0.8 else chance.randint(2, BATCH)
    return tuple(_crowded_task(chance) for _ in range(size))


def _crowded_task(chance: random.Random) -> PlannedTask:
    """Shorter than an episode's: thousands of them are to pass."""
    kind = chance.choices(("command", "echo", "sleep", "python_eval"), (10, 8, 4, 1))[0]
    works = kind == "command"
    timeout_s, seconds = 30, chance.choice((0, 0.2, chance.uniform(0.3, 2)))
    if works and chance.random() < 0.03:
        timeout_s, seconds = 1, 10
    return PlannedTask(
        at=0,
        kind=kind,  # type: ignore[arg-type]  # one of the four above
        seconds=seconds,
        exit_code=chance.choices((0, 3), (6, 1))[0] if works else 0,
        timeout_s=timeout_s,
        max_retries=chance.choices((0, 1, 2), (3, 1, 1))[0],
        at_most_once=chance.random() < 0.25,
        memory_gb=chance.choice((None, None, None, 0.2, 0.3)),
        cancel_after=_sometimes(chance, 0.12, 0, 2),
        retries=chance.random() < 0.3,
    )


def _fault(chance: random.Random) -> PlannedFault:
    kind = chance.choices(FAULTS, [_WEIGHTS.get(kind, 1) for kind in FAULTS])[0]
    return PlannedFault(
        at=chance.uniform(0, 1 if kind in CLIENT_FAULTS else 3.5),
        kind=kind,
        target=chance.randrange(AGENTS),
        seconds=_duration(chance, kind),
        amount=chance.choice((0, 1, 40, 400)),
    )


def _duration(chance: random.Random, kind: str) -> float:
    if kind == "agent stopped past its lease":
        return chance.uniform(LEASE_S + 1, LEASE_S + 3)
    if kind == "slow":
        return chance.uniform(1, 3)
    # Now and then so long that a device that is gone must be noticed, and nothing may show running on it.
    return chance.uniform(9, 11) if chance.random() < 0.06 else chance.uniform(0.2, LEASE_S + 1.5)


def _sometimes(chance: random.Random, share: float, low: float, high: float) -> float | None:
    return chance.uniform(low, high) if chance.random() < share else None


def body(task: PlannedTask, nonce: str, tag: str, argv: list[str]) -> dict[str, Any]:
    """The submission's JSON; `tag` names the episode's agents, `argv` is the work of a command."""
    payloads: dict[str, dict[str, Any]] = {
        "echo": {"nonce": nonce},
        "sleep": {"duration": task.seconds},
        "python_eval": {"expression": "2 ** n", "variables": {"n": len(nonce)}},
        "command": {"command": argv},
    }
    requirements: dict[str, Any] = {
        "required_tags": [tag],
        "timeout_seconds": task.timeout_s,
        "max_retries": task.max_retries,
        "on_device_loss": "fail" if task.at_most_once else "requeue",
    }
    if task.memory_gb is not None:
        requirements["min_memory_gb"] = task.memory_gb
    return {
        "task_type": task.kind,
        "payload": payloads[task.kind],
        "requirements": requirements,
        "metadata": {"nonce": nonce},
    }


def expected(task: PlannedTask, nonce: str) -> Any:
    """What a success must have as its result; None for a command, whose output names its attempt."""
    return {
        "echo": {"echo": {"nonce": nonce}},
        "sleep": {"slept_for": task.seconds},
        "python_eval": {"result": 2 ** len(nonce), "expression": "2 ** n"},
        "command": None,
    }[task.kind]
