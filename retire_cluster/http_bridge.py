"""ASGI to Django in one hop: asyncio reads the body, one pool thread runs the whole synchronous stack.

Django's own ASGI handler crosses between loop and threads several times a request. Here a request crosses twice:
into the pool with its body complete, and back with its answer complete. A `?wait=` holds no thread meanwhile.
"""

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from django.core import signals
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.db import close_old_connections
from django.http import HttpResponse, HttpResponseBase
from django.urls import set_script_prefix
from rest_framework.response import Response

from retire_cluster import stopping
from retire_cluster.api import bodies
from retire_cluster.api.pending import Pending, pending_of
from retire_cluster.middleware import BRIDGED, WEBSOCKET
from retire_cluster.threadpool import ThreadPool

T = TypeVar("T")
Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_ASCII = "".join(map(chr, range(33, 127)))


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(slots=True)
class Reply:
    """An answer ready to be sent: a whole body, or blocks that a pool thread reads one by one."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    blocks: Iterator[bytes] | None
    response: HttpResponseBase


class _Stack(BaseHandler):
    """Django's middleware and views, synchronous."""

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware(is_async=False)

    def respond(self, request: ASGIRequest) -> HttpResponseBase:
        set_script_prefix(get_script_prefix(request.scope))
        signals.request_started.send(sender=self.__class__, scope=request.scope)
        response = self.get_response(request)
        assert isinstance(response, HttpResponseBase)
        return response


class HttpBridge:
    """An ASGI application for `http`, `lifespan` and those WebSockets that have an application at their path."""

    def __init__(self, threads: int) -> None:
        self.websockets: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {}
        self._pool = ThreadPool(threads, "http")
        self._stack: _Stack | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self.websockets.get(scope["path"].rstrip("/"), _refuse_websocket)(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise ValueError(f"unknown ASGI scope {scope['type']!r}")

    async def ask(self, scope: Scope, meta: dict[str, Any]) -> HttpResponseBase:
        """The answer of the whole stack to a GET with the headers of a WebSocket's handshake."""
        request_scope = {**scope, "type": "http", "method": "GET"}
        return await self._pool.run(lambda: self._answer(request_scope, b"", 0, meta))

    async def run(self, function: Callable[[], T]) -> T:
        """Run something that blocks, such as a query, in a thread of the pool."""

        def work() -> T:
            try:
                return function()
            finally:
                close_old_connections()

        return await self._pool.run(work)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._pool.run(self._loaded)  # the first request need not pay for it
                stopping.release_waiters_on_signal()
                await send({"type": "lifespan.startup.complete"})
            else:
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _loaded(self) -> _Stack:
        # Two threads may load it at once; both results are good and one stays.
        if self._stack is None:
            self._stack = _Stack()
        return self._stack

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body, size = await _read_body(scope, receive)
        except ClientGoneError:
            return
        outcome = await self._pool.run(lambda: self._serve(scope, body, size))
        if isinstance(outcome, Reply):
            await self._send(outcome, scope["method"], send)
            return
        response, pending = outcome
        if await _wait_or_gone(pending, receive):
            reply = await self._pool.run(lambda: _completed(response, pending))
            await self._send(reply, scope["method"], send)
        else:
            await self._pool.run(lambda: _abandoned(response, pending))

    def _serve(self, scope: Scope, body: bytes, size: int) -> Reply | tuple[Response, Pending]:
        """In a pool thread: the whole request; a pending response comes back unfinished."""
        response = self._answer(scope, body, size, {BRIDGED: True})
        pending = pending_of(response)
        if pending is None:
            return _reply(response)
        assert isinstance(response, Response)
        close_old_connections()  # a pooled connection must not be held while nobody works
        return response, pending

    def _answer(self, scope: Scope, body: bytes, size: int, meta: dict[str, Any]) -> HttpResponseBase:
        query = quote(scope.get("query_string", b""), safe=_ASCII)  # raw bytes beyond ASCII are legal here
        headers = [_readable(name, value) for name, value in scope["headers"]]
        request = ASGIRequest({**scope, "query_string": query, "headers": headers}, io.BytesIO(body))
        request.META.update(meta)
        request.META["CONTENT_LENGTH"] = str(size)
        response = self._loaded().respond(request)
        if WEBSOCKET in meta:
            response.close()  # gives the thread's database connection back
        return response

    async def _send(self, reply: Reply, method: str, send: Send) -> None:
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        try:
            if reply.blocks is not None and method != "HEAD":
                blocks = reply.blocks
                while (block := await self._pool.run(lambda: next(blocks, None))) is not None:
                    await send({"type": "http.response.body", "body": block, "more_body": True})
            await send({"type": "http.response.body", "body": b"" if method == "HEAD" else reply.body})
        finally:
            if reply.blocks is not None:
                await self._pool.run(reply.response.close)


def _readable(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """The header as Django can take it."""
    if name != b"content-type":
        return name, value
    return name, bodies.readable_type(value.decode("latin-1")).encode("latin-1")


async def _read_body(scope: Scope, receive: Receive) -> tuple[bytes, int]:
    """The body and its size; beyond the limit nothing is kept, and the size says that it was too much."""
    limit = bodies.limit(scope["path"])
    declared = bodies.declared(_header(scope, b"content-length"))
    if declared > limit and not bodies.is_heard_out(declared, _header(scope, b"expect")):
        return b"", declared
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        else:
            chunks.clear()
        if not message.get("more_body", False) or size > bodies.MOST_DISCARDED:
            return b"".join(chunks), max(size, declared) if declared > limit else size


def _header(scope: Scope, wanted: bytes) -> str:
    """The first header of the name; empty without one."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


async def _wait_or_gone(pending: Pending, receive: Receive) -> bool:
    """Wait for what is pending; False when the client went away first."""
    waiting = asyncio.ensure_future(pending.waiter.wait_async(pending.seconds))
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()
            return True
        return False
    finally:
        for future in (waiting, leaving):
            future.cancel()
        await asyncio.gather(waiting, leaving, return_exceptions=True)
        pending.close()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _completed(response: Response, pending: Pending) -> Reply:
    pending.complete(response)
    return _reply(response)


def _abandoned(response: Response, pending: Pending) -> None:
    """The client left while waiting: 499 in the log, as nginx calls it."""
    response.status_code = 499
    pending.on_complete(response)
    response.close()


def _reply(response: HttpResponseBase) -> Reply:
    """What to send, taken out of Django's response in the pool thread."""
    headers = [(name.encode("ascii").lower(), value.encode("latin-1")) for name, value in response.items()]
    headers += [
        (b"set-cookie", cookie.output(header="").strip().encode()) for cookie in response.cookies.values()
    ]
    if response.streaming:
        blocks = iter(response)
        return Reply(response.status_code, headers, b"", blocks, response)
    assert isinstance(response, HttpResponse)
    body = bytes(response.content)
    response.close()  # gives the thread's database connection back
    return Reply(response.status_code, headers, body, None, response)


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
        await send(
            {"type": "websocket.http.response.body", "body": b"There is no WebSocket at this address.\n"}
        )
    else:
        await send({"type": "websocket.close", "code": 1000})
