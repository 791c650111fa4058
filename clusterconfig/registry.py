"""The sections of the cluster's configuration: types, bounds, defaults. Seconds unless a name says otherwise."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ConfigError(ValueError):
    """A value is not allowed; `field` is `section.key`."""

    def __init__(self, field_name: str, reason: str) -> None:
        super().__init__(f"{field_name}: {reason}")
        self.field = field_name
        self.reason = reason


def _bounded(default: float, low: float, high: float) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True)
class ServerSection:
    """Limits of the gateway."""

    max_connections: int = _bounded(1000, 1, 100_000)


@dataclass(frozen=True, slots=True)
class HeartbeatSection:
    """How devices show that they live, and how long the cluster waits when they do not."""

    interval: int = _bounded(60, 1, 300)
    timeout: int = _bounded(300, 3, 3600)
    max_missed: int = _bounded(3, 1, 10)
    reconnect_grace: int = _bounded(5, 0, 600)

    @property
    def silence(self) -> int:
        """Seconds without a sign of life after which a device is offline; also the lease term."""
        return min(self.timeout, self.interval * self.max_missed)


@dataclass(frozen=True, slots=True)
class SchedulerSection:
    """How often a lost device is forgiven."""

    max_device_losses: int = _bounded(3, 0, 100)


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """All sections, and a version that grows with every change."""

    server: ServerSection = ServerSection()
    heartbeat: HeartbeatSection = HeartbeatSection()
    scheduler: SchedulerSection = SchedulerSection()
    version: int = 0


SECTIONS: dict[str, type[Any]] = {
    "server": ServerSection,
    "heartbeat": HeartbeatSection,
    "scheduler": SchedulerSection,
}


def build(section: str, values: Mapping[str, Any]) -> Any:
    """A section from stored or submitted values; missing ones are defaults. Raises ConfigError."""
    cls = SECTIONS[section]
    fields = {item.name: item for item in dataclasses.fields(cls)}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"{section}.{key}", "is not a setting")
        _check(f"{section}.{key}", value, fields[key].metadata)
    built = cls(**values)
    if isinstance(built, HeartbeatSection) and built.timeout <= built.interval:
        raise ConfigError("heartbeat.timeout", f"must be more than the interval ({built.interval})")
    return built


def _check(name: str, value: Any, bounds: Mapping[str, Any]) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(name, "must be a whole number")
    if not bounds["low"] <= value <= bounds["high"]:
        raise ConfigError(name, f"must be {bounds['low']} to {bounds['high']}")
