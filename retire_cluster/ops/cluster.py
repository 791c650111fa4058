"""The cluster as a whole, in figures: all of them measured."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings

from clusterconfig import services as config
from devices import presence
from devices.models import Device, Gateway
from devices.serializers import uptime_text
from retire_cluster import __version__, ops
from retire_cluster.api import traffic
from retire_cluster.ops import probe
from tasks import reservations, statistics

PERFORMANCE = (
    "success_rate",
    "average_execution_time",
    "tasks_per_hour",
    "queue_wait_p50_seconds",
    "queue_wait_p95_seconds",
)


def gateway_address() -> tuple[str, int, bool | None]:
    """Where the gateway listens, and whether with TLS; as configured, and unknown, before its first start."""
    row = Gateway.objects.filter(stopped_at=None).order_by("-started_at").first()
    return (row.host, row.port, row.tls) if row else (settings.CLUSTER_HOST, settings.CLUSTER_PORT, None)


def server_info() -> dict[str, Any]:
    """The gateway: version, time since its start, where it listens."""
    facts = probe.gateway()
    host, port, _ = gateway_address()
    return {"version": __version__, "uptime": uptime_text(facts.uptime_s), "host": host, "port": port}


def metrics() -> dict[str, Any]:
    """How the cluster is used now, and how it performed lately. Percentages are means over devices."""
    measured = Device.objects.members().measured()
    online = list(Device.objects.members().filter(online=True).values_list("id", flat=True))
    seen = [view.metrics for view in presence.latest(online).values()]
    taken = reservations.taken()
    rates = traffic.window.measure()
    return {
        "devices": measured["devices"],
        "resources": {
            **measured["resources"],
            "cpu_percent": _mean(item.get("cpu_percent") for item in seen),
            "memory_percent": _mean(item.get("memory_percent") for item in seen),
            "slots_total": measured["slots"],
            "slots_busy": sum(taken[device_id][0] for device_id in online if device_id in taken),
        },
        "tasks": {"queue_stats": statistics.queue_stats()},
        "performance": {
            **{name: statistics.performance()[name] for name in PERFORMANCE},
            "request_rate": rates.request_rate,
            "error_rate": rates.error_rate,
        },
    }


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 1) if known else None


def configuration() -> dict[str, Any]:
    """The settings a client may want to know, and which features this cluster has."""
    current = config.current()
    host, port, tls = gateway_address()
    return {
        "server": {"host": host, "port": port, "max_connections": current.server.max_connections},
        "heartbeat": {
            "interval": current.heartbeat.interval,
            "timeout": current.heartbeat.timeout,
            "max_missed": current.heartbeat.max_missed,
        },
        "features": {
            "task_scheduling": probe.gateway().scheduler != "unhealthy",
            "api_enabled": True,  # or there would be no answer
            "auth_required": settings.AUTH == "all",
            "websocket": ops.serves_websocket,
            "tls": bool(tls),
        },
    }
