"""Read and change the cluster's configuration and identity."""

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DatabaseError
from django.utils import timezone

from clusterconfig import audit, registry
from clusterconfig.audit import Actor
from clusterconfig.models import ClusterIdentity, ConfigChange, ConfigSection
from retire_cluster import hints
from retire_cluster.db import write_transaction
from retire_cluster.events import outbox

CACHE_S = 1.0  # how soon a change made by another process is seen here

_lock = threading.Lock()
_cached: tuple[float, registry.ClusterSettings] | None = None


class StaleError(Exception):
    """The section is not at the version the caller knows; `version` is the one it has."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the section has changed meanwhile; it is at version {version}")
        self.version = version


class InvalidError(Exception):
    """Values that cannot be stored; `problems` says what is wrong with each."""

    def __init__(self, problems: Collection[registry.ConfigError]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = list(problems)


@dataclass(frozen=True, slots=True)
class Section:
    """A section's values in force, and the version that grows with each change of it; 0 = never changed."""

    name: str
    values: dict[str, int]
    version: int


def current() -> registry.ClusterSettings:
    """The settings in force, at most a second old; older only while the database does not answer."""
    global _cached
    cached = _cached
    if cached is not None and time.monotonic() - cached[0] < CACHE_S:
        return cached[1]
    try:
        settings = _load()
    except DatabaseError:
        if cached is None:
            raise
        return cached[1]
    with _lock:
        _cached = (time.monotonic(), settings)
    return settings


def confirm(version: int, *, read_at: float) -> None:
    """Another statement saw this version at a monotonic time; where it is the one known, that is new again."""
    global _cached
    with _lock:
        if _cached is not None:
            _cached = (read_at, _cached[1]) if _cached[1].version == version else None


def sections() -> dict[str, Section]:
    """All sections as they are stored now. One query."""
    stored = {row.name: row for row in ConfigSection.objects.all()}
    return {name: _section(name, stored.get(name)) for name in registry.SECTIONS}


def section(name: str) -> Section:
    """One section as it is stored now. One query."""
    return _section(name, ConfigSection.objects.filter(name=name).first())


def change(
    name: str,
    values: Mapping[str, Any],
    *,
    actor: Actor,
    now: datetime,
    versions: Collection[int] | None = None,
) -> Section:
    """Merge values into a section and validate the result; what is set already changes nothing.

    Raises InvalidError, and StaleError when `versions` are given and the section is at none of them; nothing is
    stored then.
    """
    with write_transaction():
        row = _locked(name, now)
        if versions is not None and row.version not in versions:
            raise StaleError(row.version)
        merged = {**row.values, **values}
        wrong = registry.problems(name, merged)
        if wrong:
            raise InvalidError(wrong)
        facts = _store(row, merged, actor=actor, now=now)
        if facts:
            audit.record("config.change", name, actor=actor, now=now, details=facts)
    _announce()
    return _section(name, row)


def reset(*, actor: Actor, now: datetime) -> dict[str, Section]:
    """Every section back to its defaults. Versions go on: what clients remember of them stays true."""
    with write_transaction():
        rows = {name: _locked(name, now) for name in sorted(registry.SECTIONS)}
        changed = {name: _store(row, {}, actor=actor, now=now) for name, row in rows.items()}
        facts = {name: details for name, details in changed.items() if details}
        if facts:
            audit.record("config.reset", ",".join(facts), actor=actor, now=now, details=facts)
    _announce()
    return {name: _section(name, rows[name]) for name in registry.SECTIONS}


def forget_cached() -> None:
    """Read from the database at the next call."""
    global _cached
    with _lock:
        _cached = None


def incarnation() -> UUID:
    """Which life of the database this is; made at first use."""
    identity, _ = ClusterIdentity.objects.get_or_create(id=1, defaults={"created_at": timezone.now()})
    return identity.incarnation


def stream() -> str:
    """The name of the stream of events in this life of the database."""
    return incarnation().hex[:12]


def _load() -> registry.ClusterSettings:
    stored = {row.name: row for row in ConfigSection.objects.all() if row.name in registry.SECTIONS}
    built = {
        name: registry.build(name, stored[name].values if name in stored else {})
        for name in registry.SECTIONS
    }
    return registry.ClusterSettings(**built, version=sum(row.version for row in stored.values()))


def _section(name: str, row: ConfigSection | None) -> Section:
    built = registry.build(name, row.values if row else {})
    return Section(name, asdict(built), row.version if row else 0)


def _locked(name: str, now: datetime) -> ConfigSection:
    """The section's row, made where there is none: two first changes at once must meet at a row."""
    new = ConfigSection(name=name, version=0, changed_at=now)
    ConfigSection.objects.bulk_create([new], ignore_conflicts=True)
    return ConfigSection.objects.select_for_update().get(name=name)


def _store(row: ConfigSection, values: dict[str, Any], *, actor: Actor, now: datetime) -> dict[str, Any]:
    """Replace a section's overrides; returns what changed in effect, for the record, and nothing if nothing did."""
    old = asdict(registry.build(row.name, row.values))
    new = asdict(registry.build(row.name, values))
    keys = [key for key in new if new[key] != old[key]]
    if not keys:
        return {}
    row.values, row.version, row.changed_at = values, row.version + 1, now
    row.save()
    outbox.record("config.changed", {"section": row.name, "version": row.version})
    before, after = {key: old[key] for key in keys}, {key: new[key] for key in keys}
    ConfigChange.objects.create(
        section=row.name,
        version=row.version,
        changed_at=now,
        changed_by=actor.principal[:100],
        old=before,
        new=after,
    )
    return {"old": before, "new": after, "version": row.version}


def _announce() -> None:
    """After the commit: this process sees it at once, its gateway tells the agents."""
    forget_cached()
    hints.notify(hints.INTENT)
