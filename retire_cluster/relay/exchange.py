"""One request through the relay: its body and the answer's are passed on as they come."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpcore

from retire_cluster.relay import answers, headers
from retire_cluster.relay.headers import Arrival
from retire_cluster.relay.upstream import Broken, Unreachable, Upstream

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BROKEN = "whether it took effect is not known: look, or send it again with the same Idempotency-Key"
SAFE = ("GET", "HEAD", "OPTIONS")
CLIENT_GONE = 499  # in the log, as nginx calls it

logger = logging.getLogger("api.requests")


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(slots=True)
class Exchange:
    """A request of a client, on its way to the gateway and back."""

    scope: Scope
    receive: Receive
    send: Send
    came: Arrival
    request_id: str
    status: int = CLIENT_GONE
    _sent: bool = False

    async def run(self, upstream: Upstream, stopping: "asyncio.Future[None]") -> None:
        """Until it is answered, the client goes away, or the relay stops; and one line in the log."""
        began = time.perf_counter()
        arrived = asyncio.Event()
        work = asyncio.ensure_future(self._pass_on(upstream, arrived))
        leaving = asyncio.ensure_future(self._client_leaves(arrived))
        try:
            await asyncio.wait({work, leaving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, leaving):
                task.cancel()
            results = await asyncio.gather(work, leaving, return_exceptions=True)
        if stopping.done() and not self._sent:
            await self._fail("this relay is stopping")
        self._log(began)
        _raise_unexpected(results)

    async def _pass_on(self, upstream: Upstream, arrived: asyncio.Event) -> None:
        raw = self.scope["headers"]
        framing = headers.framing(raw)
        sent = headers.upstream(raw, self.came, request_id=self.request_id, scheme=upstream.peer.scheme)
        body = self._body(arrived)
        if not framing:
            arrived.set()
        try:
            async with upstream.request(
                self.scope["method"], target(self.scope), sent + framing, body if framing else None
            ) as response:
                await self._answer(response, upstream.peer.scheme)
        except Unreachable as error:
            await self._fail(str(error))
        except Broken as error:
            await self._fail(str(error) if self.scope["method"] in SAFE else f"{error}; {BROKEN}")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
            # The answer has begun: the one way to say that it is not whole is to end the connection.
            logger.warning("the gateway ended an answer half-way", extra={"request_id": self.request_id})

    async def _body(self, arrived: asyncio.Event) -> AsyncIterator[bytes]:
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                arrived.set()
                return

    async def _answer(self, response: httpcore.Response, scheme: str) -> None:
        self.status = response.status
        answered = headers.downstream(response.headers, self.came, scheme=scheme)
        self._sent = True
        await self.send({"type": "http.response.start", "status": response.status, "headers": answered})
        async for block in response.aiter_stream():
            await self.send({"type": "http.response.body", "body": block, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})

    async def _fail(self, reason: str) -> None:
        self.status, self._sent = 503, True
        await answers.unavailable(self.send, reason, self.request_id)

    async def _client_leaves(self, arrived: asyncio.Event) -> None:
        """Who reads the body hears of it; afterwards somebody else must listen."""
        await arrived.wait()
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def _log(self, began: float) -> None:
        facts = {
            "request_id": self.request_id,
            "method": self.scope["method"],
            "path": self.scope["path"],
            "status_code": self.status,
            "duration_ms": round((time.perf_counter() - began) * 1000, 1),
        }
        logger.info("Request relayed", extra=facts)


def target(scope: Scope) -> bytes:
    """Path and query as the client wrote them; the server lets through only ASCII."""
    query = scope.get("query_string", b"")
    raw: bytes = scope["raw_path"]
    return raw + b"?" + query if query else raw


def _raise_unexpected(results: Sequence[BaseException | None]) -> None:
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, ClientGone):
            raise result
