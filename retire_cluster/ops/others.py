"""Whether other gateways do the work while the one this process asks is silent.

A gateway's row says when it last spoke to the database. One that spoke after ours was found silent is another one,
or ours is only out of this process's reach; either way work goes on. A silence noted long ago proves nothing: ours
may have come back and died since, unseen by this process.
"""

import threading
import time
from datetime import datetime, timedelta

from devices.models import Gateway
from retire_cluster import db

SPOKE_LATELY = timedelta(seconds=10)  # gateways speak every 5 s
UNSEEN_S = 90.0  # monitors look once a minute; after a longer gap a silence begins anew

_guard = threading.Lock()
_silent_since: datetime | None = None
_looked_at = float("-inf")  # monotonic


def heard() -> None:
    """The gateway this process asks has answered."""
    global _silent_since
    with _guard:
        _silent_since = None


def living() -> int:
    """Gateways that spoke lately, and since ours fell silent. On SQLite there is but one."""
    if db.is_sqlite():
        return 0
    now = db.now()
    since = max(_silence(now), now - SPOKE_LATELY)
    return Gateway.objects.filter(stopped_at=None, seen_at__gt=since).count()


def _silence(now: datetime) -> datetime:
    """Since when ours is silent, as far as this process knows."""
    global _silent_since, _looked_at
    with _guard:
        looked_at, _looked_at = _looked_at, time.monotonic()
        if _silent_since is None or _looked_at - looked_at > UNSEEN_S:
            _silent_since = now
        return _silent_since
