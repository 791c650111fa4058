"""`/health` of a relay: as healthy as the gateway says it is, and unhealthy where it cannot be asked."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpcore

from retire_cluster.relay import headers
from retire_cluster.relay.peer import Unvouched
from retire_cluster.relay.upstream import Broken, Unreachable, Upstream

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"
STATES = (HEALTHY, DEGRADED, UNHEALTHY)
COMPONENTS = ("api", "cluster_server", "task_scheduler")
ANSWER_S = 5.0
KEPT_S = 1.0  # monitors may ask at any rate; the gateway is asked at most this often
MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the three components, and facts about what is behind them."""

    components: dict[str, str]
    services: dict[str, Any] = field(default_factory=dict)
    unvouched: bool = False  # the gateway shows a certificate that only a person can judge

    @property
    def status(self) -> str:
        states = set(self.components.values())
        return next((state for state in (UNHEALTHY, DEGRADED) if state in states), HEALTHY)

    @property
    def reason(self) -> str:
        """Why the gateway does not serve; empty when it does."""
        return str(self.services["gateway"].get("reason", ""))

    def body(self) -> dict[str, Any]:
        """What `/health` shows."""
        return {
            "status": self.status,
            "timestamp": datetime.now(UTC),
            "components": self.components,
            "services": self.services,
        }


class Probe:
    """Asks the gateway, for all who want to know at the same time."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._lock = asyncio.Lock()
        self._kept: tuple[float, Health] | None = None

    async def health(self) -> Health:
        """The gateway's health, at most KEPT_S old."""
        async with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] >= KEPT_S:
                self._kept = (time.monotonic(), await self.ask())
            return self._kept[1]

    async def ask(self) -> Health:
        """The gateway's health now."""
        where = self._upstream.peer.address
        place = {"host": where.host, "port": where.port, "tls": self._upstream.peer.tls}
        try:
            said = await self._said()
        except (Unreachable, Broken) as error:
            return silent(place, str(error), unvouched=isinstance(error.__cause__, Unvouched))
        except (TimeoutError, httpcore.TimeoutException):
            return silent(
                place, f"the gateway at {where} took a question for its health and did not answer in time"
            )
        except (ValueError, httpcore.NetworkError, httpcore.ProtocolError):
            return silent(place, f"what answers on {where} is no gateway of a cluster")
        return understood(place, said)

    async def _said(self) -> Any:
        # This name every gateway takes for its own, whatever it is called from here.
        sent = [(b"host", b"localhost"), (b"accept", b"application/json"), (b"via", headers.VIA)]
        async with (
            asyncio.timeout(ANSWER_S),
            self._upstream.request("GET", b"/health", sent, read_s=ANSWER_S) as response,
        ):
            body = b""
            async for block in response.aiter_stream():
                body += block
                if len(body) > MAX_ANSWER_BYTES:
                    raise ValueError("too long")
            return json.loads(body)


def silent(place: dict[str, Any], reason: str, *, unvouched: bool = False) -> Health:
    """Nothing can be asked for: every component a client could use is away."""
    return Health(
        dict.fromkeys(COMPONENTS, UNHEALTHY),
        {"gateway": {"status": UNHEALTHY, **place, "reason": reason}},
        unvouched,
    )


def understood(place: dict[str, Any], said: Any) -> Health:
    """The gateway's own words, as far as they have the form of a health."""
    components = said.get("components") if isinstance(said, dict) else None
    if not isinstance(components, dict) or any(components.get(name) not in STATES for name in COMPONENTS):
        return silent(place, f"what answers on {place['host']}:{place['port']} is no gateway of a cluster")
    services = said.get("services")
    services = services if isinstance(services, dict) else {}
    known = services.get("gateway")
    gateway = {"status": components["cluster_server"], **(known if isinstance(known, dict) else {}), **place}
    return Health({name: components[name] for name in COMPONENTS}, {**services, "gateway": gateway})
