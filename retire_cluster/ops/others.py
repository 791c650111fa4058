"""Whether other gateways do the work while the one this process asks is silent.

A gateway's row says when it last spoke to the database. One that spoke after ours was found silent is another one,
or ours is only out of this process's reach; either way work goes on.
"""

import threading
from datetime import datetime

from devices.models import Gateway
from retire_cluster import db

_guard = threading.Lock()
_silent_since: datetime | None = None


def heard() -> None:
    """The gateway this process asks has answered."""
    global _silent_since
    with _guard:
        _silent_since = None


def living() -> int:
    """Gateways that spoke since ours fell silent. On SQLite there is but one."""
    global _silent_since
    if db.is_sqlite():
        return 0
    with _guard:
        since = _silent_since = _silent_since or db.now()
    return Gateway.objects.filter(stopped_at=None, seen_at__gt=since).count()
