"""Devices as the API shows them."""

from collections.abc import Sequence
from typing import Any

from devices import presence
from devices.models import Device
from devices.presence import PresenceView
from devices.querysets import MB_PER_GB


def device_rows(devices: Sequence[Device]) -> list[dict[str, Any]]:
    """The list fields of devices; two further queries, however many devices."""
    ids = [device.pk for device in devices]
    seen = presence.latest(ids)
    running = Device.objects.running_counts(ids)
    return [_row(device, seen.get(device.pk), running.get(device.pk, 0)) for device in devices]


def device_detail(device: Device) -> dict[str, Any]:
    """Everything known of one device."""
    seen = presence.latest([device.pk]).get(device.pk)
    running = Device.objects.running_counts([device.pk]).get(device.pk, 0)
    return {
        **_row(device, seen, running),
        "registration_time": device.registered_at,
        "total_heartbeats": seen.heartbeats if seen else 0,
        "agent_version": device.agent_version,
        "task_types": device.task_types,
        "full_capabilities": device.capabilities,
        "latest_metrics": seen.metrics if seen else {},
    }


def _row(device: Device, seen: PresenceView | None, running: int) -> dict[str, Any]:
    uptime = seen.metrics.get("uptime_s") if seen and device.online else None
    return {
        "device_id": device.pk,
        "role": device.role,
        "platform": device.platform,
        "status": "online" if device.online else "offline",
        "status_reason": device.status_reason or (device.cordon_reason if device.cordoned else ""),
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
        "running_tasks": running,
    }


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
