"""What people who follow the events are told of devices and gateways. Everybody may listen."""

from collections.abc import Iterable
from typing import Any

from devices.models import Device, Gateway
from retire_cluster.events import outbox


def online(device: Device, *, joined: bool) -> None:
    """A device connected; `joined`: it is new here."""
    facts = {"device_id": device.pk, "status": "online", "joined": joined}
    outbox.record("device.online", {**facts, "role": device.role, "platform": device.platform})


def offline(device_ids: Iterable[str], reason: str) -> None:
    """Devices lost their connection."""
    for device_id in device_ids:
        outbox.record("device.offline", {"device_id": device_id, "status": "offline", "reason": reason})


def changed(device_id: str, **facts: Any) -> None:
    """What an operator, the cluster or the device itself set; only what is new is told."""
    outbox.record("device.changed", {"device_id": device_id, **facts})


def removed(device_id: str) -> None:
    """A device left for good."""
    outbox.record("device.removed", {"device_id": device_id})


def gateway(gateway: Gateway, *, started: bool, reason: str = "") -> None:
    """A gateway began to serve, or is gone."""
    facts = {"gateway_id": str(gateway.pk), "host": gateway.host, "port": gateway.port}
    if started:
        outbox.record("cluster.gateway_started", facts)
    else:
        outbox.record("cluster.gateway_stopped", {**facts, "reason": reason})
