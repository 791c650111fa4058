"""A gateway of a few lines on a real socket: accepts agents, records what they say, says what the test wants."""

import asyncio
import json
import secrets
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from retire_cluster.protocol import codec, pinning
from retire_cluster.protocol.messages import (
    Assign,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Message,
    Pulse,
    Register,
    Result,
    ResultAck,
    Welcome,
)
from retire_cluster.protocol.states import Verdict

M = TypeVar("M", bound=Message)
DEADLINE_S = 20.0
SECRET = "rcd_" + "5" * 64


async def until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Wait for the condition, fail with its name."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while loop.time() < end:
        if found := condition():
            return found
        await asyncio.sleep(0.005)
    raise AssertionError(f"not within {deadline_s:g} s: {what}")


class FakeGateway:
    """`port` is kept across restart(). Set the attributes to change how it behaves."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.port = 0
        self.interval_s = 60.0
        self.token: str | None = None  # refuse any other, if set
        self.known: dict[str, str] = {}  # device_id -> secret
        self.removed: set[str] = set()  # device ids that come back only with `rejoin`
        self.refuse: Goodbye | None = None
        self.after_welcome: list[Message] = []  # follows in the same frame
        self.acknowledges = True
        self.answers_heartbeats = True
        self.gives_link_numbers = True
        self.proves_as: str | None = None  # answers /node/proof with this certificate's fingerprint, if set
        self.connections: list[ServerConnection] = []
        self.received: list[Message] = []
        self.bytes_seen = 0
        self._server: Server | None = None

    async def start(self) -> None:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            ssl=self.tls,
            compression=None,
            process_request=self._prove,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        self.connections.clear()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    # --- what a test sees and says --------------------------------------------------------------------------

    def all(self, kind: type[M]) -> list[M]:
        return [message for message in self.received if isinstance(message, kind)]

    async def next(self, kind: type[M], count: int = 1) -> M:
        """The count-th message of the kind, once it is here."""
        await until(lambda: len(self.all(kind)) >= count, f"{count} x {kind.type}, got {self.received}")
        return self.all(kind)[count - 1]

    async def joined(self, count: int = 1) -> Register:
        """The count-th registration, once its connection is up."""
        register = await self.next(Register, count)
        await until(lambda: self.connections, "an accepted connection")
        return register

    async def send(self, *messages: Message) -> None:
        for frame in codec.encode(messages):
            await self.connections[-1].send(frame)

    async def send_text(self, text: str) -> None:
        await self.connections[-1].send(text)

    async def result(self, attempt: str) -> Result:
        found: Result = await until(
            lambda: next((r for r in self.all(Result) if r.attempt == attempt), None), f"result of {attempt}"
        )
        return found

    # --- the gateway's side ---------------------------------------------------------------------------------

    def _prove(self, connection: ServerConnection, request: Request) -> Response | None:
        """What /node/proof answers; every other request is a WebSocket's."""
        path, _, query = request.path.partition("?")
        if self.proves_as is None or path != pinning.PATH:
            return None
        asked = dict(parse_qsl(query))
        key = pinning.key_of(self.known.get(asked["device_id"], secrets.token_hex()))
        proof = pinning.proof(key, asked["device_id"], asked["nonce"], self.proves_as)
        return connection.respond(HTTPStatus.OK, json.dumps({"proof": proof}))

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            register = self._take(await connection.recv())[0]
            assert isinstance(register, Register)
            answer = self.refuse or self._judge(register)
            await self._say(connection, answer, *self.after_welcome)
            if isinstance(answer, Goodbye):
                return
            self.connections.append(connection)
            async for frame in connection:
                await self._answer(connection, self._take(frame))
        except ConnectionClosed:
            return

    def _take(self, frame: str | bytes) -> list[Message]:
        self.bytes_seen += len(frame)
        messages = codec.decode_from_agent(frame)
        self.received.extend(messages)
        return messages

    def _judge(self, register: Register) -> Message:
        secret = None
        if register.device_id in self.removed:
            if not register.rejoin:
                return Goodbye(code="revoked")
            self.removed.discard(register.device_id)
        if register.secret is not None:
            if register.device_id not in self.known:
                return Goodbye(code="unknown_device", reason="never seen")
            if self.known[register.device_id] != register.secret:
                return Goodbye(code="bad_secret")
        elif self.token is not None and register.join_token != self.token:
            return Goodbye(code="bad_token", reason="no such token")
        else:
            secret = self.known[register.device_id] = SECRET
        pulse = Pulse(interval_s=self.interval_s, silence_s=180.0)
        return Welcome(
            protocol=1,
            device_id=register.device_id,
            session=len(self.all(Register)),
            server_version="test",
            incarnation="1" * 32,
            pulse=pulse,
            secret=secret,
            link_no=len(self.all(Register)) if self.gives_link_numbers else None,
        )

    async def _answer(self, connection: ServerConnection, messages: Sequence[Message]) -> None:
        for message in messages:
            if isinstance(message, Heartbeat) and self.answers_heartbeats:
                await self._say(connection, HeartbeatAck())
            if isinstance(message, Result) and self.acknowledges:
                await self._say(connection, ResultAck(attempt=message.attempt, verdict=Verdict.RECORDED))

    async def _say(self, connection: ServerConnection, *messages: Message) -> None:
        for frame in codec.encode(messages):
            await connection.send(frame)


@asynccontextmanager
async def gateway(tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeGateway]:
    """A running fake gateway."""
    fake = FakeGateway(tls)
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()


def new_id() -> str:
    return secrets.token_hex(16)


def task(task_type: str = "echo", payload_json: str = "{}", timeout_s: float = 60.0, **extra: Any) -> Assign:
    return Assign(
        attempt=new_id(),
        task=new_id(),
        task_type=task_type,
        payload_json=payload_json,
        timeout_s=timeout_s,
        **extra,
    )


class AgentProcess:
    """A real `retire-cluster-worker`, with its log lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, *arguments: str, environ: dict[str, str] | None = None) -> "AgentProcess":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "retire_cluster.cli.worker"),
            *arguments,
            stderr=asyncio.subprocess.PIPE,
            env=environ,
        )
        return cls(process)

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.lines.append(line.decode())

    @property
    def log(self) -> str:
        return "".join(self.lines)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """The exit code."""
        async with asyncio.timeout(DEADLINE_S):
            await self._reader
            return await self._process.wait()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        """As `kill -9` does."""
        if self._process.returncode is None:
            self._process.kill()
        await self.wait()


@asynccontextmanager
async def agent_process(
    *arguments: str, environ: dict[str, str] | None = None
) -> AsyncIterator[AgentProcess]:
    """A real agent; killed at the end unless it has ended."""
    agent = await AgentProcess.start(*arguments, environ=environ)
    try:
        yield agent
    finally:
        await agent.kill()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run an async scenario in a loop of its own, with a deadline."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(limited())
