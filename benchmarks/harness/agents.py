"""Many simulated agents in one process: they register, beat and come back like real ones, and run nothing.

`python -m benchmarks.harness.agents --port GATEWAY --token-file FILE --count 1000` obeys lines of JSON on its
standard input (talking.py) and ends with it. The calls are the public methods of Fleet. Connections are plain
WebSockets from many loopback addresses, as from many machines. With `--execute` tasks end at once, each with the
result an `echo` has.
"""

import argparse
import asyncio
import json
import resource
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.harness.talking import Talker
from retire_cluster import __version__
from retire_cluster.agent.address import Address
from retire_cluster.agent.backoff import Backoff
from retire_cluster.agent.config import Timing
from retire_cluster.agent.link import Connection, LinkError
from retire_cluster.protocol import codec
from retire_cluster.protocol.messages import (
    PROTOCOL_VERSION,
    Accepted,
    Assign,
    Cancel,
    Capabilities,
    Declined,
    Go,
    Goodbye,
    Held,
    LinkStored,
    Message,
    Metrics,
    Register,
    Result,
    ResultAck,
    Stop,
    Stopped,
    Welcome,
)
from retire_cluster.protocol.states import HeldState, Outcome, Platform

ADDRESSES = 200  # 127.0.1.1 and on: a gateway limits unregistered connections by address
AT_ONCE = 64  # connections being opened; the rest of the fleet waits for its turn, as on a busy network
PHASES = 997  # prime to most counts: first heartbeats spread evenly over the interval
TIMING = Timing()
METRICS = Metrics(
    cpu_percent=3.0, memory_percent=40.0, memory_available_mb=2048, load_1m=0.1, uptime_s=3600.0
)
CAPABILITIES = Capabilities(
    platform=Platform.LINUX, hostname="simulated", cpu_count=4, memory_total_mb=4096, storage_total_mb=32_768
)
_BEAT = json.dumps(
    {
        "type": "heartbeat",
        "metrics": {"cpu_percent": 3.0, "memory_percent": 40.0, "memory_available_mb": 2048},
    }
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What all agents of a fleet have in common."""

    gateway: Address
    token: str
    task_types: tuple[str, ...]
    tags: tuple[str, ...]
    slots: int
    execute: bool


class Agent:
    """One device; `run` holds its connection, and opens the next one when it is lost."""

    def __init__(self, number: int, name: str, kind: Kind, turns: asyncio.Semaphore) -> None:
        self.registered_at: float | None = None  # time.monotonic(); None while not connected
        self.losses = 0
        self.ended = 0  # tasks whose result was acknowledged
        self.last_words = ""  # of the last goodbye
        self._number, self.name, self._kind, self._turns = number, name, kind, turns
        self._run_id = uuid4().hex
        self._secret: str | None = None
        self._link_no = 0
        self._results: dict[str, Result | None] = {}  # held attempts; None: accepted, waits for `go`
        self._waiting: dict[str, Assign] = {}
        self._connection: Connection | None = None
        self._beat: asyncio.TimerHandle | None = None
        self.interval_s = 60.0

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(TIMING.first_retry_s, TIMING.longest_retry_s)
        while True:
            self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            try:
                await self._connect()
                await self._lost
            except (OSError, LinkError, TimeoutError) as error:
                self.last_words = str(error)
            held_s = time.monotonic() - self.registered_at if self.registered_at else 0.0
            self._forget_connection()
            if held_s >= TIMING.stable_s:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _connect(self) -> None:
        async with self._turns, asyncio.timeout(TIMING.connect_s + TIMING.welcome_s):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._kind.gateway),
                self._kind.gateway.host,
                self._kind.gateway.port,
                local_addr=(f"127.0.1.{1 + self._number % ADDRESSES}", 0),
            )
            self._connection = connection
            await connection.upgrade()
            connection.start(self)
            await self.introduce()
            await asyncio.wait((self._welcome, self._lost), return_when=asyncio.FIRST_COMPLETED)

    async def introduce(self) -> None:
        """Say who this is."""
        await self._send(self._registration())

    async def send_text(self, text: str) -> None:
        if self._connection:
            await self._connection.send(text)

    def vanish(self) -> None:
        """Close the socket without a word, as a device does that loses its power."""
        self._forget_connection()

    def _forget_connection(self) -> None:
        self.registered_at = None
        if self._beat:
            self._beat.cancel()
        if self._connection:
            self._connection.abort()
        self._connection, self._beat = None, None

    def _registration(self) -> Register:
        return Register(
            protocol=PROTOCOL_VERSION,
            device_id=self.name,
            run_id=self._run_id,
            agent_version=__version__,
            capabilities=CAPABILITIES,
            secret=self._secret,
            join_token=None if self._secret else self._kind.token,
            tags=self._kind.tags,
            task_types=self._kind.task_types,
            slots=self._kind.slots,
            metrics=METRICS,
            held=tuple(
                Held(attempt=attempt, state=HeldState.FINISHED if result else HeldState.WAITING)
                for attempt, result in self._results.items()
            ),
            link_no=self._link_no,
        )

    async def _send(self, *messages: Message) -> None:
        if self._connection:
            for frame in codec.encode(messages):
                await self._connection.send(frame)

    def _reply(self, messages: Iterable[Message]) -> None:
        keep(self._send(*messages))

    # --- for the connection ---------------------------------------------------------------------------------

    def link_lost(self, reason: str) -> None:
        if self.registered_at:
            self.losses += 1
        if not self._lost.done():
            self._lost.set_result(reason)

    def frame_received(self, text: str) -> None:
        if text == '[{"type":"heartbeat_ack"}]':  # nearly all there is: spared the decoder
            return
        answers = [answer for message in codec.decode_from_gateway(text) for answer in self._act(message)]
        if answers:
            self._reply(answers)

    def _act(self, message: Message) -> list[Message]:
        match message:
            case Welcome():
                return self._welcomed(message)
            case Assign():
                return self._assigned(message)
            case Go():
                assigns = [self._waiting.pop(item) for item in message.attempts if item in self._waiting]
                return [self._finish(item) for item in assigns]
            case ResultAck():
                self.ended += self._results.pop(message.attempt, None) is not None
            case Cancel() if message.attempt in self._waiting:
                self._waiting.pop(message.attempt)
                self._results[message.attempt] = cancelled = Result(
                    attempt=message.attempt, outcome=Outcome.CANCELLED
                )
                return [cancelled]
            case Stop():
                for attempt in message.attempts:
                    self._waiting.pop(attempt, None)
                    self._results.pop(attempt, None)
                return [Stopped(attempts=message.attempts)]
            case Goodbye():
                self.last_words = f"{message.code}: {message.reason}"
        return []

    # --- pieces ---------------------------------------------------------------------------------------------

    def _welcomed(self, message: Welcome) -> list[Message]:
        self._secret = message.secret or self._secret
        self.is_welcome(message.pulse.interval_s)
        answers: list[Message] = [result for result in self._results.values() if result]
        if message.link_no is not None:
            self._link_no = message.link_no
            answers.append(LinkStored(link_no=message.link_no))
        return answers

    def is_welcome(self, interval_s: float) -> None:
        """The connection is accepted, and heartbeats begin."""
        self.registered_at = time.monotonic()
        self.interval_s = interval_s
        self.schedule(interval_s * (self._number % PHASES) / PHASES)
        if not self._welcome.done():
            self._welcome.set_result(None)

    def _assigned(self, message: Assign) -> list[Message]:
        if message.attempt in self._results:
            return []  # offered again: what is held is said in the next registration
        if not self._kind.execute:
            return [Declined(attempt=message.attempt, reason="a simulated device runs nothing")]
        accepted = Accepted(attempts=(message.attempt,))
        if message.wait_for_go:
            self._results[message.attempt], self._waiting[message.attempt] = None, message
            return [accepted]
        return [accepted, self._finish(message)]

    def _finish(self, message: Assign) -> Result:
        text = f'{{"echo":{message.payload_json}}}'
        result = Result(attempt=message.attempt, outcome=Outcome.SUCCESS, result_json=text)
        self._results[message.attempt] = result
        return result

    def schedule(self, seconds: float) -> None:
        if self._beat:
            self._beat.cancel()
        self._beat = asyncio.get_running_loop().call_later(seconds, self.heartbeat)

    def heartbeat(self) -> None:
        if self._connection:
            held = [
                {"attempt": attempt, "state": "finished" if result else "waiting"}
                for attempt, result in self._results.items()
            ]
            text = f"{_BEAT[:-1]}, {json.dumps({'held': held})[1:]}" if held else _BEAT
            keep(self._connection.send(f"[{text}]"))
            self.schedule(self.interval_s)


_kept: set[asyncio.Future[None]] = set()  # the loop itself holds tasks weakly


def keep(work: Coroutine[Any, Any, None]) -> None:
    """Do it in the background."""
    future = asyncio.ensure_future(work)
    _kept.add(future)
    future.add_done_callback(_kept.discard)


class Fleet:
    """All of them, and what can be asked of them."""

    def __init__(self, kind: Kind, prefix: str, count: int, device: type[Agent] = Agent) -> None:
        turns = asyncio.Semaphore(AT_ONCE)
        self._agents = [device(number, f"{prefix}-{number}", kind, turns) for number in range(count)]
        self._tasks = [asyncio.create_task(agent.run()) for agent in self._agents]

    def status(self) -> dict[str, Any]:
        """How many are registered now, connections lost and results acknowledged so far, a goodbye if any."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()  # one that failed is an error here, not a silent device
        words = [
            agent.last_words for agent in self._agents if agent.registered_at is None and agent.last_words
        ]
        return {
            "registered": sum(agent.registered_at is not None for agent in self._agents),
            "lost": sum(agent.losses for agent in self._agents),
            "ended": sum(agent.ended for agent in self._agents),
            "last_words": words[-1] if words else "",
        }

    def kill(self, count: int) -> dict[str, Any]:
        """The last `count` that still live vanish for good, without a goodbye."""
        living = [item for item in zip(self._agents, self._tasks, strict=True) if not item[1].cancelled()]
        for agent, task in living[-count:] if count else []:
            task.cancel()
            agent.vanish()
        return {}


class Agents:
    """A fleet in a process of its own, for who starts it."""

    def __init__(
        self,
        port: int,
        token_file: Path,
        count: int,
        log: Path,
        *,
        prefix: str = "sim",
        task_types: str = "never",
        flags: tuple[str, ...] = (),
    ) -> None:
        which = ("--port", str(port), "--token-file", token_file, "--count", str(count))
        what = ("--prefix", prefix, "--task-types", task_types, *flags)
        self._talker = Talker("the simulated agents", [sys.executable, "-m", __name__, *which, *what], log)
        self.pid = self._talker.pid

    def status(self) -> dict[str, Any]:
        """As Fleet.status."""
        return self._talker.call("status")

    def kill(self, count: int) -> None:
        self._talker.call("kill", count=count)

    def wait(self, count: int, seconds: float) -> float:
        """Wait until so many are registered; returns for how long. Raises TimeoutError."""
        began = time.monotonic()
        while (status := self.status())["registered"] < count:
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"{status} of {count} agents after {seconds:g} s")
            time.sleep(0.1)
        return time.monotonic() - began

    def stop(self) -> None:
        self._talker.stop()


async def serve(calls: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """As benchmarks/peers/driver.py, beside an event loop."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        question = json.loads(line)
        try:
            answer = calls[question["call"]](**question["arguments"])
        except Exception as error:  # told to who asked
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harness.agents")
    parser.add_argument("--port", type=int, required=True, help="of the gateway, on this machine")
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--prefix", default="sim", help="of their names")
    parser.add_argument("--task-types", default="never", help="what they offer, comma-separated")
    parser.add_argument("--tags", default="", help="comma-separated")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--stock", action="store_true", help="devices of the stock Channels project")
    parser.add_argument("--execute", action="store_true", help="run what is assigned, as echo does")
    return parser.parse_args()


def _device(*, stock: bool) -> type[Agent]:
    if not stock:
        return Agent
    from benchmarks.harness.stock_agents import StockAgent

    return StockAgent


async def main() -> None:
    options = _options()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kind = Kind(
        Address("127.0.0.1", options.port),
        options.token_file.read_text().strip(),
        tuple(filter(None, options.task_types.split(","))),
        tuple(filter(None, options.tags.split(","))),
        options.slots,
        options.execute,
    )
    fleet = Fleet(kind, options.prefix, options.count, _device(stock=options.stock))
    await serve({"status": fleet.status, "kill": fleet.kill})


if __name__ == "__main__":
    asyncio.run(main())
