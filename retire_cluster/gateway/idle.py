"""Whether a second of a gateway's has anything to do at all: one look in place of a transaction.

A home lab's cluster rests most of the time, and its database may lie on an SD card or be shared with others.
"""

from datetime import datetime
from uuid import UUID

from django.db import connection
from django.utils import timezone

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
        {{clock}}
"""  # noqa: S608 names come from the models


def look(gateway_id: UUID, *, about: datetime) -> datetime | None:
    """The database's clock if nothing waits, runs or is wanted of a device of the gateway; None if something is.

    `about` is the time as far as it is known, for what is too old to be wanted.
    """
    gateway = Device._meta.get_field("gateway").get_db_prep_value(gateway_id, connection)
    since = connection.ops.adapt_datetimefield_value(about - pings.STILL_WANTED)
    clock = "clock_timestamp()" if connection.vendor == "postgresql" else "NULL"
    with connection.cursor() as cursor:
        cursor.execute(_LOOK.format(clock=clock), [since, gateway])
        is_busy, now = cursor.fetchone()
    return None if is_busy else now or timezone.now()
