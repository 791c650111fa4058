"""Devices as cards: state with its reason, what is used and reserved, what they measure. Constant queries."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from clusterconfig import services as config
from devices import presence, serializers
from devices.models import Device
from devices.presence import PresenceView
from retire_cluster.dashboard import pictures
from tasks import reservations


@dataclass(frozen=True, slots=True)
class Card:
    """A device for people. `row` are the API's list fields; percentages are None where unknown."""

    device: Device
    row: dict[str, Any]
    metrics: dict[str, Any]
    reserved_slots: int
    reserved_memory_mb: int
    beats: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """One word: what keeps it from work comes first."""
        if not self.device.online:
            return "offline"
        if self.device.draining:
            return "draining"
        if self.device.cordoned:
            return "cordoned"
        return "paused" if self.device.paused_reason else "online"

    @property
    def slots_percent(self) -> float:
        return min(100.0, 100 * self.reserved_slots / self.device.slots)

    @property
    def reserved_memory_percent(self) -> float | None:
        total = self.device.allocatable_memory_mb
        return min(100.0, 100 * self.reserved_memory_mb / total) if total else None

    @property
    def temperature(self) -> float | None:
        return number(self.metrics.get("temperature_c"))

    @property
    def battery(self) -> float | None:
        return number(self.metrics.get("battery_percent"))

    @property
    def charging(self) -> bool:
        return self.metrics.get("charging") is True

    @property
    def cpu(self) -> float | None:
        return number(self.metrics.get("cpu_percent"))

    @property
    def memory(self) -> float | None:
        return number(self.metrics.get("memory_percent"))


def number(value: object) -> float | None:
    """What a device measured; None for whatever else it sent."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def cards(devices: Sequence[Device]) -> list[Card]:
    """Three queries, however many devices."""
    ids = [device.pk for device in devices]
    seen = presence.latest(ids)
    taken = reservations.taken(ids)
    found = []
    for device, row in zip(devices, serializers.device_rows(devices, seen), strict=True):
        view = seen.get(device.pk)
        slots, memory_mb, _ = taken.get(device.pk, reservations.NOTHING)
        metrics = view.metrics if view and device.online else {}
        found.append(Card(device, row, metrics, slots, memory_mb))
    return found


def with_beats(found: Sequence[Card], now: datetime) -> list[Card]:
    """The cards with their last heartbeats. One query, which reads long histories: for as many as a page shows."""
    seen = presence.latest([card.device.pk for card in found], with_history=True)
    return [replace(card, beats=beats_of(card.device, seen.get(card.device.pk), now)) for card in found]


def beats_of(device: Device, view: PresenceView | None, now: datetime) -> list[str]:
    """Whether a heartbeat came, interval by interval; unknown before the first one that is remembered."""
    every = timedelta(seconds=config.current().heartbeat.interval)
    heard = [datetime.fromisoformat(sample["timestamp"]) for sample in view.history] if view else []
    return pictures.beats(heard, now=now, every=every, known_since=device.disconnected_at)
