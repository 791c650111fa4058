"""Read and change the cluster's configuration and identity."""

import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DatabaseError
from django.utils import timezone

from clusterconfig import registry
from clusterconfig.models import ClusterIdentity, ConfigSection
from retire_cluster.db import write_transaction

CACHE_S = 1.0  # how soon a change made by another process is seen here

_lock = threading.Lock()
_cached: tuple[float, registry.ClusterSettings] | None = None


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


def change(section: str, values: Mapping[str, Any], *, now: datetime) -> registry.ClusterSettings:
    """Merge values into a section and validate the result. Raises registry.ConfigError; nothing is stored then."""
    with write_transaction():
        row = ConfigSection.objects.select_for_update().filter(name=section).first()
        merged = {**(row.values if row else {}), **values}
        registry.build(section, merged)
        version = (row.version if row else 0) + 1
        ConfigSection.objects.update_or_create(
            name=section, defaults={"values": merged, "version": version, "changed_at": now}
        )
    forget_cached()
    return current()


def forget_cached() -> None:
    """Read from the database at the next call."""
    global _cached
    with _lock:
        _cached = None


def incarnation() -> UUID:
    """Which life of the database this is; made at first use."""
    identity, _ = ClusterIdentity.objects.get_or_create(id=1, defaults={"created_at": timezone.now()})
    return identity.incarnation


def _load() -> registry.ClusterSettings:
    stored = {row.name: row for row in ConfigSection.objects.all() if row.name in registry.SECTIONS}
    sections = {
        name: registry.build(name, stored[name].values if name in stored else {})
        for name in registry.SECTIONS
    }
    return registry.ClusterSettings(**sections, version=sum(row.version for row in stored.values()))
