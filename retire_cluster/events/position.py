"""Where the stream of events is now, and what came last: for pages that are drawn before they listen."""

from retire_cluster.events.frames import Cursor, Event, unpack
from retire_cluster.events.models import EventBatch


def end(stream: str) -> Cursor:
    """The last numbered event; what was committed but not numbered yet comes after it. One query."""
    last = _newest(1)
    return Cursor(stream, last[0].seq_from + last[0].count - 1 if last and last[0].seq_from else 0)


def latest(stream: str, most: int) -> list[Event]:
    """The last events, the newest first. One query."""
    events: list[Event] = []
    for row in _newest(most):
        if len(events) >= most:
            break
        events += reversed(list(unpack(stream, row.seq_from or 0, row.events, row.created_at)))
    return events[:most]


def _newest(most: int) -> list[EventBatch]:
    return list(EventBatch.objects.filter(seq_from__isnull=False).order_by("-seq_from")[:most])
