"""The relay as an ASGI application: `/health` is its own, `/node` is nobody's here, all else is the gateway's."""

import asyncio
import uuid
from collections.abc import Sequence
from functools import partial

from retire_cluster import hosts
from retire_cluster.api.errors import ErrorCode, Failure
from retire_cluster.relay import answers, health, websocket
from retire_cluster.relay.exchange import Exchange, Receive, Scope, Send
from retire_cluster.relay.headers import Arrival, arrival
from retire_cluster.relay.upstream import Upstream

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ELSEWHERE = "devices connect to the gateway itself, at {}"


class RelayApp:
    """Serves in the loop it was made in."""

    def __init__(
        self, upstream: Upstream, *, proxies: Sequence[str] = (), own_names: Sequence[str] = ()
    ) -> None:
        """`proxies` in front of it are believed in X-Forwarded-*; `own_names`: further ones for `/health`."""
        self._upstream = upstream
        self._proxies = hosts.networks(tuple(proxies))
        self._own_names = tuple(own_names)
        self._probe = health.Probe(upstream)
        self._stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        """Answer what is still waiting."""
        if not self._stopping.done():
            self._stopping.set_result(None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        came = self._arrival(scope)
        request_id = _request_id(scope)
        if scope["type"] == "http":
            await self._http(scope, receive, send, came, request_id)
        elif scope["type"] == "websocket" and _is_at(scope["path"], "/ws"):
            await websocket.relay(scope, receive, send, came, self._upstream, request_id)
        elif scope["type"] == "websocket":
            await websocket.refuse_unknown(scope, receive, send, self._elsewhere())
        else:
            raise ValueError(f"unknown ASGI scope {scope['type']!r}")

    async def _http(self, scope: Scope, receive: Receive, send: Send, came: Arrival, request_id: str) -> None:
        path = scope["path"]
        if path.rstrip("/") == "/health":
            await self._health(scope, send, came, request_id)
        elif _is_at(path, "/node"):
            await answers.not_here(send, self._elsewhere(), request_id)
        elif scope["method"] not in METHODS:
            message = f"the method {scope['method']} is not relayed"
            await answers.not_allowed(send, message, request_id, ", ".join(METHODS))
        else:
            exchange = Exchange(scope, receive, send, came, request_id)
            await exchange.run(self._upstream, self._stopping)

    async def _health(self, scope: Scope, send: Send, came: Arrival, request_id: str) -> None:
        fail = partial(answers.fail, send, request_id=request_id)
        if scope["method"] not in ("GET", "HEAD"):
            await answers.not_allowed(send, "health is only read", request_id, "GET, HEAD")
        elif not hosts.is_allowed(came.host.decode("latin-1"), self._own_names):
            reason = "this host name is not allowed; add it to RETIRE_CLUSTER_ALLOWED_HOSTS on the server"
            details = {"field": "Host", "reason": reason}
            await fail(Failure(400, ErrorCode.VALIDATION_ERROR, reason, details))
        else:
            state = await self._probe.health()
            status = 503 if state.status == health.UNHEALTHY else 200
            await answers.say(send, status, state.body(), {"X-Request-ID": request_id})

    def _elsewhere(self) -> str:
        return ELSEWHERE.format(self._upstream.peer.address)

    def _arrival(self, scope: Scope) -> Arrival:
        client = str((scope.get("client") or ("unknown", 0))[0])
        address = hosts.address(client)
        trusted = address is not None and any(address in network for network in self._proxies)
        scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
        return arrival(scope["headers"], client=client, scheme=scheme, trusted=trusted)


def _is_at(path: str, place: str) -> bool:
    return path == place or path.startswith(place + "/")


def _request_id(scope: Scope) -> str:
    """The client's id if it is a UUID, else a new one: the gateway's log then has the same."""
    offered = next(
        (value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), ""
    )
    try:
        return str(uuid.UUID(offered)) if len(offered) in (32, 36) else str(uuid.uuid4())
    except ValueError:
        return str(uuid.uuid4())
