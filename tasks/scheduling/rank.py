"""The order of the queue: one number per task, set once."""

from datetime import datetime, timedelta

from retire_cluster.protocol.states import Priority

# Time minus a head start: higher priority first, equal priority first come first served, and an old low task
# outranks fresh urgent ones after 24 hours, so nothing starves.
HEAD_START: dict[Priority, timedelta] = {
    Priority.LOW: timedelta(0),
    Priority.NORMAL: timedelta(minutes=15),
    Priority.HIGH: timedelta(hours=2),
    Priority.URGENT: timedelta(hours=24),
}


def rank(now: datetime, priority: Priority, index: int = 0) -> int:
    """Microseconds since the epoch; `index` keeps the order within a batch. Smallest goes first."""
    moment = now - HEAD_START[priority]
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond + index
