"""`/health`: three components, each really asked."""

import time
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, connection

from retire_cluster.ops import probe

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict, the state of each component, and facts about the services behind them."""

    components: dict[str, str]
    services: dict[str, Any]

    @property
    def status(self) -> str:
        states = set(self.components.values())
        return next((state for state in (UNHEALTHY, DEGRADED) if state in states), HEALTHY)


def check() -> Health:
    """Ask the database and the gateway."""
    database = _database()
    gateway = probe.gateway()
    services: dict[str, Any] = {
        "database": database,
        "gateway": {"status": gateway.status, **gateway.details},
    }
    if gateway.reason:
        services["gateway"]["reason"] = gateway.reason
    components = {
        "api": database["status"],
        "cluster_server": gateway.status,
        "task_scheduler": gateway.scheduler,
    }
    return Health(components, services)


def _database() -> dict[str, Any]:
    started = time.perf_counter()
    facts = {"engine": connection.vendor}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    except DatabaseError:
        return {"status": UNHEALTHY, **facts, "reason": "the database does not answer"}
    milliseconds = round((time.perf_counter() - started) * 1000, 1)
    return {"status": HEALTHY, **facts, "response_time_ms": milliseconds}
