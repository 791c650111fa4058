"""Whether a second of a gateway's has anything to do at all: one look in place of a transaction.

It brings the version of the settings along, which need no statement of their own while it stays.

A home lab's cluster rests most of the time, and its database may lie on an SD card or be shared with others.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.utils import timezone

from clusterconfig.models import ConfigSection
from devices import pings
from devices.models import Device, Ping
from tasks.models import Task

# Tasks that are not over have their queue, their leases and their end to be looked after.
_LOOK = f"""
    SELECT
        EXISTS (SELECT 1 FROM {Task._meta.db_table} WHERE status IN ('pending', 'queued', 'assigned', 'running'))
        OR EXISTS (SELECT 1 FROM {Ping._meta.db_table} WHERE ended_at IS NULL AND requested_at > %s)
        OR EXISTS (
            SELECT 1 FROM {Device._meta.db_table}
            WHERE gateway_id = %s AND (removed_at IS NOT NULL OR drain_deadline IS NOT NULL)
        ),
        (SELECT coalesce(sum(version), 0) FROM {ConfigSection._meta.db_table}),
        {{clock}}
"""  # noqa: S608 names come from the models


@dataclass(frozen=True, slots=True)
class Look:
    """What there was: whether anything waits, runs or is wanted of a device; the settings' version; the time."""

    is_busy: bool
    config_version: int
    now: datetime  # the database's


def look(gateway_id: UUID, *, about: datetime) -> Look:
    """One statement. `about` is the time as far as it is known, for what is too old to be wanted."""
    gateway = Device._meta.get_field("gateway").get_db_prep_value(gateway_id, connection)
    since = connection.ops.adapt_datetimefield_value(about - pings.STILL_WANTED)
    clock = "clock_timestamp()" if connection.vendor == "postgresql" else "NULL"
    with connection.cursor() as cursor:
        cursor.execute(_LOOK.format(clock=clock), [since, gateway])
        is_busy, version, now = cursor.fetchone()
    return Look(bool(is_busy), int(version), now or timezone.now())
