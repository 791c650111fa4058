"""`/health`: three components, each really asked, and the services they stand on."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError

from retire_cluster.ops import others, probe, services
from retire_cluster.ops.services import DEGRADED, HEALTHY, UNHEALTHY


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict, the state of each component, and facts about the services behind them."""

    components: dict[str, str]
    services: dict[str, Any]

    @property
    def status(self) -> str:
        return worst(self.components.values())


def check() -> Health:
    """Ask the gateway and every service, all at the same time."""
    services.put_all()
    gateway = probe.gateway()
    found: dict[str, Any] = services.answers()
    if found["database"]["status"] == HEALTHY:
        gateway = _beside_others(gateway)
    found["gateway"] = {"status": gateway.status, **gateway.details}
    if "devices_connected" in found["database"]:  # of all gateways; the one we ask knows its own only
        found["gateway"]["devices_connected"] = found["database"].pop("devices_connected")
    if gateway.reason:
        found["gateway"]["reason"] = gateway.reason
    components = {
        "api": _worst_of(found, "database", "disk", "redis"),
        "cluster_server": gateway.status,
        "task_scheduler": worst([gateway.scheduler, _worst_of(found, "broker")]),
    }
    return Health(components, found)


def worst(states: Iterable[str]) -> str:
    """The state of what consists of parts in these states."""
    found = set(states)
    return next((state for state in (UNHEALTHY, DEGRADED) if state in found), HEALTHY)


def _beside_others(gateway: probe.GatewayFacts) -> probe.GatewayFacts:
    """The gateway's facts; while it is silent but others do the work, the cluster is only degraded."""
    if gateway.status != UNHEALTHY:
        others.heard()
        return gateway
    try:
        living = others.living()
    except DatabaseError:  # it went away just now, or is not migrated yet
        living = 0
    if not living:
        return gateway
    reason = f"{gateway.reason}; {living} other{'s do' if living > 1 else ' does'} the work meanwhile"
    return probe.GatewayFacts(DEGRADED, HEALTHY, reason)


def _worst_of(found: dict[str, Any], *names: str) -> str:
    return worst(found[name]["status"] for name in names if name in found)
