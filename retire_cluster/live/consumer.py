"""One client of `/ws`: a snapshot, or what it missed; then every event as it is committed.

Nothing is encoded here but what one client alone is told: the events come encoded from the tail, which all clients
of the process share.
"""

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime
from typing import Any

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError

from clusterconfig.authentication import BEARER
from retire_cluster.api import envelope
from retire_cluster.events.frames import WRITE, Cursor, frame
from retire_cluster.events.subscription import Subscription
from retire_cluster.events.tail import Tail
from retire_cluster.http_bridge import HttpBridge
from retire_cluster.live import snapshot
from retire_cluster.live.views import Grant, grant_of
from retire_cluster.middleware import WEBSOCKET

logger = logging.getLogger("retire_cluster.live")

HEARTBEAT_S = 15.0  # so often a client hears something, and knows that the silence is not the network's
ASK_AGAIN_S = 30.0  # so soon a revoked key or an ended session stops listening
STALL_S = 20.0  # a client that takes nothing for so long is gone; our own listeners end its connection, too
MAX_SAID_BYTES = 1024  # clients have nothing to say here
MAX_SAID = 100  # messages between two heartbeats
TOO_OLD = "events since then are not known any more"
TOO_SLOW = "you did not take the events in time, and some were dropped"
AGAIN_LATER, TOO_BIG, NOT_ALLOWED = 1013, 1009, 1008
UNAUTHORIZED, FORBIDDEN = 4401, 4403


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types
    """A connection. It has no channel layer: the database's events are the truth, and every process reads them."""

    def __init__(self, *, bridge: HttpBridge, tail: Tail) -> None:
        super().__init__()
        self._bridge = bridge
        self._tail = tail
        self._serving: asyncio.Task[None] | None = None
        self._said = 0
        self._ask_at = time.monotonic() + ASK_AGAIN_S

    # --- what Channels calls ----------------------------------------------------------------------------------

    async def connect(self) -> None:
        response = await self._bridge.ask(self.scope, {WEBSOCKET: True})
        grant = grant_of(response)
        if grant is None:
            await self._refuse(response)
            raise StopConsumer
        await self.accept()
        self._serving = asyncio.create_task(self._serve(grant))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Whatever a client says is of no interest, as long as it is little."""
        self._said += 1
        if len(text_data or bytes_data or "") > MAX_SAID_BYTES:
            await self.close(TOO_BIG, "this stream takes no messages")
        elif self._said > MAX_SAID:
            await self.close(NOT_ALLOWED, "this stream takes no messages")

    async def disconnect(self, code: int) -> None:
        if self._serving is not None:
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving

    # --- serving ----------------------------------------------------------------------------------------------

    async def _serve(self, grant: Grant) -> None:
        subscription = Subscription(grant.wanted, self.scope.get("state", {}).get(WRITE))
        try:
            await self._begin(subscription, grant)
            while await self._still_allowed(grant):
                await self._pass_on(subscription, grant)
        except DatabaseError as error:
            logger.warning("cannot serve a subscriber: %s", error, extra={"action": "live"})
            await self.close(AGAIN_LATER, "the database cannot be used right now; connect again")
        except TimeoutError:
            self._tail.detach(subscription)  # the goodbye waits until the client reads, which may be never
            await self.close(AGAIN_LATER, "nothing was taken for too long; connect again")
        except OSError:
            pass  # the client is gone; Channels hears of it, too
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("a subscriber cannot be served", extra={"action": "live"})
            await self.close(1011, "the server made a mistake; connect again")
        finally:
            self._tail.detach(subscription)

    async def _begin(self, subscription: Subscription, grant: Grant, reset: str = "") -> None:
        """Attach first, read the state afterwards: what changes in between comes as an event."""
        since = None if reset else grant.since
        beginning = await self._bridge.run(lambda: self._tail.attach(subscription, since))
        if beginning.missed is not None:
            await self._tell("resumed", since or beginning.cursor, {})
            for event in subscription.wants(beginning.missed):
                await self._send(event.text)
            return
        if reset or since is not None:
            await self._tell("reset", beginning.cursor, {"reason": reset or TOO_OLD})
        data = await self._bridge.run(lambda: envelope.dumps(snapshot.build(grant.wanted)))
        await self._send(frame("snapshot", beginning.cursor, datetime.now(UTC), data))

    async def _pass_on(self, subscription: Subscription, grant: Grant) -> None:
        """Wait for news and send it; after a silence, say that there was none."""
        self._said = 0
        heard = await subscription.wait(HEARTBEAT_S)
        if subscription.lagged:
            await self._begin(subscription, grant, TOO_SLOW)
            return
        place = subscription.place
        event = subscription.take()
        if event is None and not heard and place is not None:
            await self._tell("heartbeat", place, {})
        while event is not None:
            await self._send(event.text)
            event = subscription.take()

    async def _still_allowed(self, grant: Grant) -> bool:
        """Ask now and then whether the client may still listen; if not, say so and close."""
        if not grant.known or time.monotonic() < self._ask_at:
            return True
        self._ask_at = time.monotonic() + ASK_AGAIN_S
        shown = {BEARER: grant.bearer} if grant.bearer else {}
        response = await self._bridge.ask(self.scope, {WEBSOCKET: True, **shown})
        if grant_of(response) is not None:
            return True
        if response.status_code not in (401, 403):
            return True  # the database is away: nobody is sent away for that
        code = UNAUTHORIZED if response.status_code == 401 else FORBIDDEN
        await self.close(code, "you may not listen any more; sign in again, or use another key")
        return False

    async def _tell(self, kind: str, cursor: Cursor, data: dict[str, Any]) -> None:
        await self._send(frame(kind, cursor, datetime.now(UTC), data))

    async def _send(self, text: str) -> None:
        async with asyncio.timeout(STALL_S):
            await self.send(text_data=text)

    async def _refuse(self, response: Any) -> None:
        """Answer the handshake as a request would be answered, where the server can do that."""
        if "websocket.http.response" not in self.scope.get("extensions", {}):
            await self.close()
            return
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.items()]
        start = {"type": "websocket.http.response.start", "status": response.status_code, "headers": headers}
        await self.base_send(start)
        await self.base_send({"type": "websocket.http.response.body", "body": bytes(response.content)})
