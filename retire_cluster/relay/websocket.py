"""A WebSocket through the relay: whole messages both ways, none read before the one before it was taken."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from retire_cluster import hosts
from retire_cluster.protocol.codec import MAX_FRAME_BYTES
from retire_cluster.relay import headers
from retire_cluster.relay.exchange import Receive, Scope, Send, target
from retire_cluster.relay.headers import Arrival, Headers
from retire_cluster.relay.peer import Peer, Untrusted, judge
from retire_cluster.relay.upstream import Upstream, reason

OPEN_S = 10.0
QUEUE = 4  # messages read ahead of a slow client
NO_CODE, LOST = 1005, 1006  # what is said of a close without a code, and without a close
Judge = Callable[[Any], None]


class _Judged(ClientConnection):
    """Looks at the certificate before it sends its request."""

    def __init__(self, *arguments: Any, look: Judge, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._look = look

    async def handshake(self, *arguments: Any, **options: Any) -> None:
        self._look(self.transport.get_extra_info("ssl_object"))
        await super().handshake(*arguments, **options)


class _Connect(connect):
    """Goes where it was told to, and to nobody that one names."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def relay(
    scope: Scope, receive: Receive, send: Send, came: Arrival, upstream: Upstream, request_id: str
) -> None:
    """Connect to the gateway, accept the client, pass on until one of them ends it."""
    await receive()
    refuse = partial(_refuse, scope, send)
    if not hosts.host_name(came.host.decode("latin-1")):
        await refuse(400, b"The header Host is malformed.\n")
        return
    try:
        far = await _open(scope, came, upstream, request_id)
    except InvalidStatus as error:
        await refuse(error.response.status_code, bytes(error.response.body or b""), error.response.headers)
    except InvalidURI:
        await refuse(400, b"The address is malformed.\n")
    except (OSError, Untrusted, InvalidHandshake, EOFError) as error:
        await refuse(503, f"{reason(upstream.peer, error)}\n".encode())
    else:
        async with far:
            await send({"type": "websocket.accept", "subprotocol": far.subprotocol})
            await _both_ways(receive, send, far)


async def _open(scope: Scope, came: Arrival, upstream: Upstream, request_id: str) -> ClientConnection:
    peer = upstream.peer
    host = came.host.decode("latin-1")
    uri = f"{'wss' if peer.tls else 'ws'}://{host}{target(scope).decode()}"
    sent = headers.upstream(scope["headers"], came, request_id=request_id, scheme=peer.scheme)
    tls: dict[str, Any] = {"ssl": upstream.context, "server_hostname": peer.server_name} if peer.tls else {}
    return await _Connect(
        uri,
        host=peer.address.host,
        port=peer.address.port,
        create_connection=cast("type[ClientConnection]", partial(_Judged, look=partial(_look, peer))),
        additional_headers=[(name.decode(), value.decode("latin-1")) for name, value in _further(sent)],
        subprotocols=[Subprotocol(name) for name in scope.get("subprotocols", ())] or None,
        user_agent_header=None,
        compression=None,
        proxy=None,  # no variable of the environment sends keys elsewhere
        open_timeout=OPEN_S,
        ping_interval=None,  # client and gateway notice each other's end by their own means
        max_size=MAX_FRAME_BYTES,
        max_queue=QUEUE,
        **tls,
    )


def _look(peer: Peer, tls: ssl.SSLObject | None) -> None:
    judge(peer, tls.getpeercert(binary_form=True) if tls is not None else None)


def _further(sent: Headers) -> Headers:
    """Without what the handshake says itself."""
    return [
        (name, value) for name, value in sent if name != b"host" and not name.startswith(b"sec-websocket-")
    ]


# --- passing on -----------------------------------------------------------------------------------------------


async def _both_ways(receive: Receive, send: Send, far: ClientConnection) -> None:
    out = asyncio.ensure_future(_to_gateway(receive, far))
    back = asyncio.ensure_future(_to_client(send, far))
    try:
        await asyncio.wait({out, back}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (out, back):
            task.cancel()
        await asyncio.gather(out, back, return_exceptions=True)


async def _to_gateway(receive: Receive, far: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):  # the other direction says so to the client
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                await far.close(_sendable(message.get("code", NO_CODE)), message.get("reason") or "")
                return
            text = message.get("text")
            await far.send(message["bytes"] if text is None else text)
    await far.wait_closed()


async def _to_client(send: Send, far: ClientConnection) -> None:
    try:
        while True:
            message = await far.recv()
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})
    except ConnectionClosed:
        code = far.close_code or LOST
        await send({"type": "websocket.close", "code": _sendable(code), "reason": far.close_reason or ""})


def _sendable(code: int) -> int:
    """The same code, but for the two that only describe what was seen."""
    return {NO_CODE: int(CloseCode.NORMAL_CLOSURE), LOST: int(CloseCode.BAD_GATEWAY)}.get(code, code)


async def _refuse(scope: Scope, send: Send, status: int, body: bytes, said: Any = None) -> None:
    """An HTTP answer instead of a WebSocket."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": int(CloseCode.TRY_AGAIN_LATER)})
        return
    kind = said.get("Content-Type", "text/plain") if said is not None else "text/plain; charset=utf-8"
    lines = [(b"content-type", kind.encode("latin-1"))]
    await send({"type": "websocket.http.response.start", "status": status, "headers": lines})
    await send({"type": "websocket.http.response.body", "body": body})


async def refuse_unknown(scope: Scope, receive: Receive, send: Send, message: str) -> None:
    """404 for every WebSocket but `/ws`."""
    await receive()
    await _refuse(scope, send, 404, f"{message}\n".encode())
