"""Devices as the API shows them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from devices import pings, presence, samples
from devices.models import Device
from devices.operations import Removal
from devices.presence import PresenceView
from devices.querysets import MB_PER_GB, Load
from devices.samples import Quarter, Spread

NO_LOAD = Load()
# Names as in a device's current load, and the metrics behind them.
CHARTS = {
    "cpu_percent": "cpu_percent",
    "memory_percent": "memory_percent",
    "battery_percent": "battery_percent",
    "temperature": "temperature_c",
    "running_tasks": samples.RUNNING,
}


def device_rows(
    devices: Sequence[Device], seen: Mapping[str, PresenceView] | None = None
) -> list[dict[str, Any]]:
    """The list fields of devices; two further queries, however many devices, or one where `seen` is known."""
    ids = [device.pk for device in devices]
    seen = presence.latest(ids) if seen is None else seen
    loads = Device.objects.loads(ids)
    return [_row(device, seen.get(device.pk), loads.get(device.pk, NO_LOAD)) for device in devices]


def device_detail(device: Device) -> dict[str, Any]:
    """Everything known of one device."""
    seen = presence.latest([device.pk], with_history=True).get(device.pk)
    return {
        **_row(device, seen, _load(device)),
        "registration_time": device.registered_at,
        "total_heartbeats": seen.heartbeats if seen else 0,
        "agent_version": device.agent_version,
        "task_types": device.task_types,
        "full_capabilities": device.capabilities,
        "latest_metrics": seen.metrics if seen else {},
        "metrics_history": list(seen.history) if seen else [],
    }


def device_status(device: Device) -> dict[str, Any]:
    """How the device is now. What it measures is null while it is offline, and where it cannot measure it."""
    seen = presence.latest([device.pk]).get(device.pk)
    load = _load(device)
    metrics = seen.metrics if seen else {}
    now = metrics if device.online else {}
    return {
        "device_id": device.pk,
        "status": _status(device),
        "is_online": device.online,
        "status_reason": _reason(device, load),
        "last_heartbeat": seen.last_seen if seen else None,
        "uptime": uptime_text(now.get("uptime_s")),
        "response_time_ms": pings.last_response_time_ms(device.pk),
        "current_load": {
            "slots": device.slots,
            "running_tasks": load.running,
            "cpu_percent": now.get("cpu_percent"),
            "memory_percent": now.get("memory_percent"),
            "battery_percent": now.get("battery_percent"),
            "charging": now.get("charging"),
            "temperature": now.get("temperature_c"),
        },
        "last_metrics": metrics,
    }


def device_metrics(device: Device, *, hours: int, now: datetime) -> dict[str, Any]:
    """What the device measured, by quarters of an hour, oldest first; a quarter without a heartbeat is missing."""
    since = now - timedelta(hours=hours)
    quarters = samples.read(device.pk, since=since, until=now)
    return {
        "device_id": device.pk,
        "since": since,
        "until": now,
        "interval_seconds": int(samples.QUARTER.total_seconds()),
        "samples": [_quarter(start, quarter) for start, quarter in quarters.items()],
    }


def _quarter(start: datetime, quarter: Quarter) -> dict[str, Any]:
    return {
        "timestamp": start,
        "heartbeats": quarter.heartbeats,
        **{shown: _spread(quarter.values.get(name)) for shown, name in CHARTS.items()},
    }


def _spread(values: Spread | None) -> dict[str, float] | None:
    if values is None:
        return None
    return {"min": round(values.low, 2), "avg": round(values.mean, 2), "max": round(values.high, 2)}


def device_service(device: Device) -> dict[str, Any]:
    """Whether the device is in service: the answer to cordon, drain and uncordon."""
    load = _load(device)
    return {
        "device_id": device.pk,
        "status": _status(device),
        "status_reason": _reason(device, load),
        "cordoned": device.cordoned,
        "draining": device.draining,
        "drain_deadline": device.drain_deadline,
        "running_tasks": load.running,
    }


def device_ping(device_id: str, asked_at: datetime, milliseconds: float | None, why: str) -> dict[str, Any]:
    """The answer to a ping; without a response time it failed, and `reason` says why."""
    answer = {
        "device_id": device_id,
        "ping_successful": milliseconds is not None,
        "response_time_ms": milliseconds,
        "ping_timestamp": asked_at,
    }
    return answer if milliseconds is not None else {**answer, "reason": why}


def device_removal(removal: Removal) -> dict[str, Any]:
    """The answer to a removal."""
    return {
        "device_id": removal.device_id,
        "removed_at": removal.removed_at,
        "was_online": removal.was_online,
    }


def _row(device: Device, seen: PresenceView | None, load: Load) -> dict[str, Any]:
    uptime = seen.metrics.get("uptime_s") if seen and device.online else None
    return {
        "device_id": device.pk,
        "role": device.role,
        "platform": device.platform,
        "status": _status(device),
        "status_reason": _reason(device, load),
        "ip_address": device.ip_address or None,
        "last_heartbeat": seen.last_seen if seen else None,
        "uptime": uptime_text(uptime),
        "capabilities": {
            "cpu_count": device.cpu_count,
            "memory_total_gb": _gigabytes(device.memory_mb),
            "storage_total_gb": _gigabytes(device.storage_mb),
            "has_gpu": device.has_gpu,
        },
        "tags": device.tags,
        "slots": device.slots,
        "running_tasks": load.running,
    }


def _load(device: Device) -> Load:
    return Device.objects.loads([device.pk]).get(device.pk, NO_LOAD)


def _status(device: Device) -> str:
    return "online" if device.online else "offline"


def _reason(device: Device, load: Load) -> str:
    """Why the device is offline or takes no new task; empty when it is in full service."""
    paused = f"paused: {device.paused_reason}" if device.paused_reason else ""
    return "; ".join(filter(None, (device.status_reason, paused, _out_of_service(device, load))))


def _out_of_service(device: Device, load: Load) -> str:
    if not device.cordoned:
        return ""
    state = "cordoned"
    if device.draining:
        state = "draining" if load.live else "drained"
    return f"{state}: {device.cordon_reason}" if device.cordon_reason else state


def _gigabytes(megabytes: int | None) -> float | None:
    return None if megabytes is None else round(megabytes / MB_PER_GB, 1)


def uptime_text(seconds: float | None) -> str | None:
    """`2d 4h 30m`; under an hour `12m`, under a minute `45s`; None when unknown."""
    if seconds is None or seconds < 0:
        return None
    if seconds < 60:
        return f"{int(seconds)}s"
    minutes = int(seconds) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days}d {hours}h {minutes}m"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m"
