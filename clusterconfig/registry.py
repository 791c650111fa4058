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
class RetentionSection:
    """How many days history is kept; an hourly job deletes what is older."""

    tasks_days: int = _bounded(30, 1, 3650)
    output_days: int = _bounded(14, 1, 3650)
    metrics_days: int = _bounded(7, 1, 3650)
    audit_days: int = _bounded(365, 1, 3650)


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """All sections, and a version that grows with every change."""

    server: ServerSection = ServerSection()
    heartbeat: HeartbeatSection = HeartbeatSection()
    scheduler: SchedulerSection = SchedulerSection()
    retention: RetentionSection = RetentionSection()
    version: int = 0


SECTIONS: dict[str, type[Any]] = {
    "server": ServerSection,
    "heartbeat": HeartbeatSection,
    "scheduler": SchedulerSection,
    "retention": RetentionSection,
}


def build(section: str, values: Mapping[str, Any]) -> Any:
    """A section from stored or submitted values; missing ones are defaults. Raises ConfigError."""
    for problem in problems(section, values):
        raise problem
    return SECTIONS[section](**values)


def problems(section: str, values: Mapping[str, Any]) -> list[ConfigError]:
    """Everything that is wrong with the values of a section."""
    cls = SECTIONS[section]
    fields = {item.name: item for item in dataclasses.fields(cls)}
    found = [
        ConfigError(f"{section}.{key}", reason)
        for key, value in values.items()
        if (reason := _judge(value, fields[key].metadata) if key in fields else _unknown(fields))
    ]
    if not found and cls is HeartbeatSection:
        found = _judge_together(HeartbeatSection(**values))
    return found


def _unknown(fields: Mapping[str, Any]) -> str:
    return f"is not a setting of this section; it has {', '.join(fields)}"


def _judge(value: Any, bounds: Mapping[str, Any]) -> str:
    """What is wrong with a value; empty when nothing is."""
    if isinstance(value, bool) or not isinstance(value, int):
        return "must be a whole number"
    if not bounds["low"] <= value <= bounds["high"]:
        return f"must be {bounds['low']} to {bounds['high']}"
    return ""


def _judge_together(heartbeat: HeartbeatSection) -> list[ConfigError]:
    if heartbeat.timeout > heartbeat.interval:
        return []
    return [ConfigError("heartbeat.timeout", f"must be more than the interval ({heartbeat.interval})")]
