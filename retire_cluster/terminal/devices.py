"""Devices from the terminal: look, test, take out of service and back, remove."""

import argparse

from retire_cluster.sdk import Client
from retire_cluster.sdk.models import Device, DeviceService
from retire_cluster.terminal import shown
from retire_cluster.terminal.exits import Exit, Trouble

COLUMNS = (
    "device",
    "status",
    "why",
    "role",
    "platform",
    "cores",
    "memory gb",
    "running",
    "slots",
    "tags",
    "heard",
)


def devices(client: Client, arguments: argparse.Namespace) -> int:
    """`devices`: all, or one with everything."""
    if arguments.device:
        return one(client, arguments.device, as_json=arguments.json)
    return listed(client, arguments)


def listed(client: Client, arguments: argparse.Namespace) -> int:
    """The devices that the filters leave."""
    found = list(client.devices(status=arguments.status, role=arguments.role, tags=arguments.tag))
    if arguments.json:
        shown.as_json([device.raw for device in found])
    else:
        shown.table(COLUMNS, map(row, found), empty="no device; `retire-cluster tokens create` lets one join")
    return Exit.OK


def row(device: Device) -> tuple[object, ...]:
    """A device's line in a table."""
    return (
        device.device_id,
        device.status,
        device.status_reason,
        device.role,
        device.platform,
        device.capabilities.cpu_count,
        device.capabilities.memory_total_gb,
        device.running_tasks,
        device.slots,
        device.tags,
        device.last_heartbeat,
    )


def one(client: Client, device_id: str, *, as_json: bool) -> int:
    """A device with everything about it."""
    device = client.device(device_id)
    if as_json:
        shown.as_json(device.raw)
        return Exit.OK
    load = client.device_status(device_id).current_load
    shown.facts(
        {
            "device": device.device_id,
            "status": device.status,
            "why": device.status_reason,
            "role": device.role,
            "platform": device.platform,
            "tags": device.tags,
            "task types": device.task_types,
            "running": f"{device.running_tasks} of {device.slots}",
            "cores": device.capabilities.cpu_count,
            "memory": _amount(device.capabilities.memory_total_gb, "GB"),
            "storage": _amount(device.capabilities.storage_total_gb, "GB"),
            "gpu": device.capabilities.has_gpu,
            "cpu": _amount(load.cpu_percent, "%"),
            "memory used": _amount(load.memory_percent, "%"),
            "battery": _amount(load.battery_percent, "%"),
            "charging": load.charging,
            "temperature": _amount(load.temperature, "°C"),
            "address": device.ip_address,
            "agent": device.agent_version,
            "uptime": device.uptime,
            "heard": device.last_heartbeat,
            "joined": device.registration_time,
        }
    )
    return Exit.OK


def _amount(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:g} {unit}"


def cordon(client: Client, arguments: argparse.Namespace) -> int:
    """`cordon DEVICE`."""
    return _say(client.cordon(arguments.device, arguments.reason), arguments)


def uncordon(client: Client, arguments: argparse.Namespace) -> int:
    """`uncordon DEVICE`."""
    return _say(client.uncordon(arguments.device, arguments.reason), arguments)


def drain(client: Client, arguments: argparse.Namespace) -> int:
    """`drain DEVICE`."""
    return _say(
        client.drain(arguments.device, arguments.reason, deadline_seconds=arguments.deadline), arguments
    )


def _say(found: DeviceService, arguments: argparse.Namespace) -> int:
    if arguments.json:
        shown.as_json(found.raw)
    else:
        shown.facts(
            {
                "device": found.device_id,
                "status": found.status,
                "why": found.status_reason,
                "cordoned": found.cordoned,
                "draining": found.draining,
                "deadline": found.drain_deadline,
                "running": found.running_tasks,
            }
        )
    return Exit.OK


def ping(client: Client, arguments: argparse.Namespace) -> int:
    """`ping DEVICE`: a round trip to its agent."""
    found = client.ping(arguments.device)
    if arguments.json:
        shown.as_json(found.raw)
    elif found.ping_successful:
        took = "" if found.response_time_ms is None else f" in {found.response_time_ms:.1f} ms"
        shown.say(f"{found.device_id} answered{took}")
    else:
        shown.note(f"{found.device_id} did not answer: {found.reason}")
    return Exit.OK if found.ping_successful else Exit.FAILED


def remove(client: Client, arguments: argparse.Namespace) -> int:
    """`remove DEVICE`: for good."""
    if not arguments.yes:
        raise Trouble(
            f"this removes {arguments.device} for good: its tasks are requeued, and it comes back only by joining "
            "anew; repeat the command with --yes",
            Exit.USAGE,
        )
    found = client.remove(arguments.device)
    shown.as_json(found.raw) if arguments.json else shown.say(f"{found.device_id} is removed")
    return Exit.OK
