"""The gateway as a plain ASGI application: `/node` for agents, `/node/health`; all else goes to the REST API."""

import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from devices import services as devices
from retire_cluster import hints
from retire_cluster.api import client
from retire_cluster.gateway.committer import CUT_OFF, Committer
from retire_cluster.gateway.connection import TRY_AGAIN_LATER, Connection, Receive, Send
from retire_cluster.gateway.guard import Guard
from retire_cluster.gateway.ingest import Identity
from retire_cluster.gateway.inputs import Effects
from retire_cluster.gateway.rounds import Rounds
from retire_cluster.gateway.websocket import LATER, TRUST
from retire_cluster.protocol import codec, pinning
from retire_cluster.protocol.messages import Goodbye
from retire_cluster.protocol.pinning import PATH as PROOF_PATH
from retire_cluster.tls import Certificate

STALE_TICK_S = 10.0  # a committer whose last tick is older does not work
ASGIApp = Callable[[dict[str, Any], Receive, Send], Any]


class GatewayApp:
    """Owns the agents' connections and the committer. `start` and `stop` in the event loop that serves it."""

    def __init__(
        self,
        identity: Identity,
        fallback: ASGIApp,
        died: Callable[[BaseException], None],
        tls: Certificate | None = None,
    ) -> None:
        """`tls` is the certificate its listener shows."""
        self._fallback = fallback
        self._tls = tls
        self._guard = Guard()
        self._connections: set[Connection] = set()
        self._started = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rounds = Rounds()
        self._committer = Committer(identity, self._deliver, died)
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin to commit and to listen for hints."""
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = hints.subscribe(self._committer.hint)
        self._committer.start()

    async def stop(self) -> None:
        """Say goodbye to every agent, commit what is left, end the committer."""
        for connection in list(self._connections):
            connection.close(Goodbye(code="stopping", reason="the gateway is stopping"))
        deadline = time.monotonic() + 2
        while self._connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if self._unsubscribe is not None:
            self._unsubscribe()
        self._committer.stop()
        await asyncio.to_thread(self._committer.join, 2)

    def health(self) -> dict[str, Any]:
        """Facts for /health: whether the committer works, how many devices are connected."""
        idle = time.monotonic() - self._committer.last_tick
        working = self._committer.is_alive() and idle < STALE_TICK_S
        trouble = self._committer.trouble or ("" if working else f"nothing was committed for {idle:.0f} s")
        state = "unhealthy" if trouble else "healthy"
        return {
            "status": state,
            "scheduler": state,
            **({"reason": trouble} if trouble else {}),
            "devices_connected": len(self._committer.sessions.by_device),
            "uptime_s": round(time.monotonic() - self._started, 1),
        }

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"].rstrip("/") != "/ws":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].rstrip("/") == "/node/health":
            await self._answer_health(send)
        elif scope["type"] == "http" and scope["path"] == PROOF_PATH:
            await self._answer_proof(scope, send)
        else:
            await self._fallback(scope, receive, send)

    async def _websocket(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        address = _address(scope)
        refusal = self._refusal(scope, address)
        if refusal is not None:
            self._guard.complaints.log(
                address, "refused a connection from %s: %s", address, refusal, action="connect"
            )
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[:120]})
            return
        await receive()
        await send({"type": "websocket.accept"})
        state = scope.get("state", {})
        trust = state.get(TRUST, _nothing)
        if self._committer.is_cut_off:  # its registration would wait until the agent gives up
            await _send_away(send)
            return
        connection = Connection(address, receive, send, self._committer.submit, trust, self._guard)
        self._connections.add(connection)
        if LATER in state:
            state[LATER](partial(self._reads_later, connection))
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    def _reads_later(self, connection: Connection, read: Callable[[], None]) -> bool:
        """Have a device at rest read with the next round. False while more than its heartbeats may come."""
        if not connection.is_calm or not self._committer.sessions.is_at_rest(connection):
            return False
        self._rounds.add(read)
        return True

    def _refusal(self, scope: dict[str, Any], address: str) -> str | None:
        if scope["path"].rstrip("/") != "/node":
            return "agents connect at /node"
        if any(name == b"origin" for name, _ in scope["headers"]):
            return (
                "browsers have no business here"  # an agent sends no Origin; a web page cannot leave it out
            )
        return self._guard.admits(address)

    async def _answer_health(self, send: Send) -> None:
        facts = self.health()
        await _answer(send, 200 if facts["status"] == "healthy" else 503, facts)

    async def _answer_proof(self, scope: dict[str, Any], send: Send) -> None:
        """Prove to a device that whoever shows this certificate, or none, knows its credential."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        device_id, nonce = query.get("device_id", ""), query.get("nonce", "")
        address = _address(scope)
        if not 32 <= len(nonce) <= 128 or not nonce.isalnum():
            await _answer(send, 400, {"reason": "device_id and nonce (32 to 128 letters and digits)"})
        elif self._guard.admits(address) is not None:
            await _answer(send, 429, {"reason": "too many attempts from this address"})
        else:
            key = await asyncio.to_thread(devices.proof_key, device_id)
            shown = pinning.PLAIN if self._tls is None else self._tls.fingerprint
            await _answer(send, 200, {"proof": pinning.proof(key, device_id, nonce, shown)})

    # --- from the committer's thread --------------------------------------------------------------------------

    def _deliver(self, effects: Effects) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_carry_out, effects)


def _address(scope: dict[str, Any]) -> str:
    """Who dials in: limits count devices, not the proxy they come through."""
    peer = str((scope.get("client") or ("unknown", 0))[0])
    forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    return client.behind(peer, forwarded.decode("latin-1"))


def _carry_out(effects: Effects) -> None:
    for link in effects.answered:
        link.frame_done()
    for link, messages in effects.send.values():
        link.send(messages)
    for link, goodbye in effects.close:
        link.close(goodbye)


async def _answer(send: Send, status: int, words: dict[str, Any]) -> None:
    body = json.dumps(words).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_away(send: Send) -> None:
    """Tell an agent to try another gateway."""
    for frame in codec.encode([Goodbye(code="unavailable", reason=CUT_OFF)]):
        await send({"type": "websocket.send", "text": frame})
    await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})


def _nothing() -> None:
    """What lifts the limit on frames where the server has none."""
