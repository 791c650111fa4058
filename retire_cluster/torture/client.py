"""A client of the REST API as a careful user writes one: it repeats what was not answered, with the same key.

Every call is one connection, so that a fault hits exactly one call. What it asked and saw is kept for the checker.
"""

import asyncio
import contextlib
import http.client
import io
import itertools
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from retire_cluster.torture.history import Asked, Seen, SeenAttempt

CALL_S = 20.0  # a connection that stands still is given up
PAUSE_S = 0.25  # before a call is repeated; twice as long each time
LONGEST_PAUSE_S = 2.0
PATIENCE_S = 300.0  # a server that never answers is a finding, not a reason to wait for ever


class NoAnswer(Exception):
    """The call may have been carried out, or not."""


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    data: Any  # of the envelope; None for an error


class Client:
    """Calls through one port, usually a fault proxy's."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self._key = key

    async def call(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> Answer:
        """One call, one connection. Raises NoAnswer."""
        try:
            async with asyncio.timeout(CALL_S):
                return await self._call(method, path, body, headers or {})
        except (OSError, http.client.HTTPException, EOFError, TimeoutError, ValueError) as error:
            raise NoAnswer(f"{method} {path}: {error!r}") from None

    async def _call(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(self._request(method, path, body, headers))
            await writer.drain()
            return _parsed(await reader.read(-1))
        finally:
            writer.transport.abort()

    def _request(self, method: str, path: str, body: Any, headers: dict[str, str]) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} /api/v1/{path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Connection: close",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            f"X-API-Key: {self._key}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + content

    async def get(self, path: str) -> Any:
        """The data of a GET, asked for until there is some. Raises NoAnswer on 404, or after PATIENCE_S."""
        deadline = time.monotonic() + PATIENCE_S
        gone, pauses = False, _pauses()
        while True:
            try:
                answer = await self.call("GET", path)
                if answer.code == 200:
                    return answer.data
                gone = answer.code == 404  # what is not there will not come
                problem = f"GET {path} was answered with {answer.code}"
            except NoAnswer as error:
                problem = str(error)
            if gone or time.monotonic() > deadline:
                raise NoAnswer(problem)
            await asyncio.sleep(next(pauses))


class Roaming(Client):
    """Asks any of several servers, each call another one: where one is away the next is tried."""

    def __init__(self, clients: Sequence[Client], chance: random.Random) -> None:
        self._clients = clients
        self._chance = chance

    async def call(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> Answer:
        return await self._chance.choice(self._clients).call(method, path, body, headers=headers)


async def answers(port: int, path: str) -> bool:
    """Whether there is an HTTP server at the port that says anything at all about the path."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(CALL_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).startswith(b"HTTP/1.1 ")
            finally:
                writer.transport.abort()
    return False


class _Bytes:
    """What http.client wants of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _parsed(data: bytes) -> Answer:
    """Raises HTTPException or ValueError for an answer that was cut off."""
    if not data:
        raise EOFError
    response = http.client.HTTPResponse(_Bytes(data))  # type: ignore[arg-type]  # it only makes a file of it
    response.begin()
    envelope = json.loads(response.read())
    return Answer(response.status, envelope.get("data") if isinstance(envelope, dict) else None)


@dataclass
class Owner:
    """One task in the eyes of who submitted it: calls that change something go one way, looks another."""

    client: Client
    reader: Client
    key: str
    body: dict[str, Any]
    task_id: str = ""
    asked: list[Asked] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    async def submit(self) -> None:
        """Submit until there is an answer, with the same key and body. Raises NoAnswer after PATIENCE_S."""
        await _until_answered(self.submit_again, self.key)

    async def submit_again(self) -> int | None:
        """The same submission once more, as by a client that forgot it had an answer; the answer's code."""
        return await self._ask("submit", "tasks", self.body, {"Idempotency-Key": self.key})

    async def cancel(self) -> None:
        """Once; a second cancel would say nothing new."""
        await self._ask("cancel", f"tasks/{self.task_id}/cancel")

    async def retry(self) -> None:
        """Once: without an answer nobody knows, and a repeated retry would be a second one."""
        await self._ask("retry", f"tasks/{self.task_id}/retry")

    async def _ask(
        self, action: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> int | None:
        sent_at = time.time()
        try:
            answer = await self.client.call("POST", path, {} if body is None else body, headers=headers)
        except NoAnswer:
            self.note(action, sent_at)
            return None
        self.note(action, sent_at, answer.code, answer.data)
        return answer.code

    def note(self, action: str, sent_at: float, code: int | None = None, data: Any = None) -> None:
        """Keep what was asked and answered; no code: there was no answer."""
        if code is None:
            self.asked.append(Asked(action=action, sent_at=sent_at))
            return
        task_id = str((data or {}).get("task_id", "")).replace("-", "")
        self.asked.append(
            Asked(action=action, sent_at=sent_at, answered_at=time.time(), code=code, task_id=task_id)
        )
        if action == "submit" and code == 201:
            self.task_id = self.task_id or task_id

    async def look(self) -> Seen:
        """The task as it is now. Raises NoAnswer after PATIENCE_S."""
        asked_at = time.time()
        data = await self.reader.get(f"tasks/{self.task_id}")
        seen = _seen(data, asked_at, time.time())
        self.seen.append(seen)
        return seen


class Batch:
    """Several owners who submit together, with one key."""

    def __init__(self, owners: Sequence[Owner]) -> None:
        self._owners = owners

    async def submit(self) -> None:
        """As an owner alone does. Raises NoAnswer after PATIENCE_S."""
        await _until_answered(self.submit_again, self._owners[0].key)

    async def submit_again(self) -> int | None:
        """The same batch once more; the answer's code."""
        first, sent_at = self._owners[0], time.time()
        wanted = {"tasks": [owner.body for owner in self._owners]}
        try:
            answer = await first.client.call(
                "POST", "tasks/batch", wanted, headers={"Idempotency-Key": first.key}
            )
        except NoAnswer:
            for owner in self._owners:
                owner.note("submit", sent_at)
            return None
        entries = answer.data["tasks"] if answer.code == 201 else [None] * len(self._owners)
        for owner, entry in zip(self._owners, entries, strict=True):
            owner.note("submit", sent_at, answer.code, entry)
        return answer.code


async def _until_answered(submit: Callable[[], Awaitable[int | None]], key: str) -> None:
    deadline, pauses = time.monotonic() + PATIENCE_S, _pauses()
    while await submit() in (None, 503):
        if time.monotonic() > deadline:
            raise NoAnswer(f"no submission of {key} was answered")
        await asyncio.sleep(next(pauses))


def _pauses() -> Iterator[float]:
    for turn in itertools.count():
        yield min(PAUSE_S * 2**turn, LONGEST_PAUSE_S)


def _seen(data: dict[str, Any], asked_at: float, answered_at: float) -> Seen:
    return Seen(
        asked_at=asked_at,
        answered_at=answered_at,
        status=data["status"],
        device=data["assigned_device_id"] or "",
        completed_at=data["completed_at"] or "",
        result=json.dumps(data["result"]),
        attempts=tuple(
            SeenAttempt(
                no=item["number"],
                round=item["round"],
                device=item["device_id"],
                state=item["state"],
                outcome=item["outcome"] or "",
            )
            for item in data["attempts"]
        ),
    )
