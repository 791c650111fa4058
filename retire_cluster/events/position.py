"""Where the stream of events is now, and what came last: for pages that are drawn before they listen."""

from collections.abc import Collection

from retire_cluster.events.frames import Cursor, Event, unpack
from retire_cluster.events.models import EventBatch

LOOKED_AT = 5000


def end(stream: str) -> Cursor:
    """The last numbered event; what was committed but not numbered yet comes after it. One query."""
    last = _newest(1)
    return Cursor(stream, last[0].seq_from + last[0].count - 1 if last and last[0].seq_from else 0)


def latest(until: Cursor, most: int, *, without: Collection[str] = ()) -> list[Event]:
    """The last events, the newest first, but for those of some types. One query.

    With `without` only the last LOOKED_AT events are looked at.
    """
    events: list[Event] = []
    for row in _newest(most, without, until.seq - LOOKED_AT if without else 0):
        if len(events) >= most:
            break
        events += reversed(list(unpack(until.stream, row.seq_from or 0, row.events, row.created_at)))
    return [event for event in events if event.kind not in without][:most]


def _newest(most: int, without: Collection[str] = (), after: int = 0) -> list[EventBatch]:
    rows = EventBatch.objects.filter(seq_from__isnull=False, seq_from__gt=after)
    for kind in without:  # what a running task prints is a row a second, each of its own
        rows = rows.exclude(count=1, events__startswith=f'[["{kind}",')
    return list(rows.order_by("-seq_from")[:most])
