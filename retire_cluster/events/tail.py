"""Following the events in this process: one thread reads them, however many clients listen.

A client attaches at a position, gets what it missed from the ring or the table, and then everything as it is
committed. What a client does not take in time is dropped and said: memory is bounded, and nobody waits for a slow
one.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from django.db import DatabaseError, connection

from retire_cluster import hints
from retire_cluster.events import numbering
from retire_cluster.events.frames import Cursor, Event, unpack
from retire_cluster.events.models import EventBatch
from retire_cluster.events.subscription import Encoder, Subscription

logger = logging.getLogger("retire_cluster.events")

LOOK_S = 0.5  # how soon, should a hint be lost
STREAM_LOOK_S = 10.0  # how soon it is noticed that the database was restored
RING = 10_000  # events remembered; a client that missed more begins anew
READ = 500  # rows in one query


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a client begins: `missed` are the events it gets first, None when they are not known any more."""

    cursor: Cursor
    missed: Sequence[Event] | None


class Tail:
    """Reads what was committed and hands it to the subscriptions; asleep while there are none.

    One in each process. `stream` names the life of the database: a restored one is another stream.
    """

    def __init__(self, stream: Callable[[], str]) -> None:
        self._read_stream = stream
        self._guard = threading.Lock()
        self._subscriptions: set[Subscription] = set()
        self._ring: deque[Event] = deque(maxlen=RING)
        self._end: Cursor | None = None  # the last event handed out; None: asleep
        self._looked_at_stream = 0.0
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._closed = False

    def attach(self, subscription: Subscription, since: Cursor | None) -> Beginning:
        """Have the subscription offered whatever comes from now on. Blocks; raises DatabaseError."""
        with self._guard:
            self._start()
            end = self._end or self._awake()
            missed = None if since is None else self._missed(since, end)
            subscription.begin(end)
            self._subscriptions.add(subscription)
        self._wake.set()
        return Beginning(end, missed)

    def detach(self, subscription: Subscription) -> None:
        """The client left. Never blocks."""
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End the thread, where the process outlives its server: in tests."""
        self._closed = True
        self._wake.set()
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._thread is None:
            self._unsubscribe = hints.subscribe(self._hear)
            self._thread = threading.Thread(target=self._run, name="retire-cluster-events", daemon=True)
            self._thread.start()

    def _hear(self, hint: hints.Hint) -> None:
        if hint == hints.NEWS:
            self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(None if self._end is None else LOOK_S)
            self._wake.clear()
            if self._closed:
                connection.close()
                return
            try:
                with self._guard:
                    self._look()
                    if self._end is None:
                        connection.close()  # it may be long until the next client comes
            except DatabaseError as error:
                logger.warning("cannot follow the events: %s", error, extra={"action": "events"})
                connection.close()
                time.sleep(LOOK_S)

    # --- under the guard --------------------------------------------------------------------------------------

    def _awake(self) -> Cursor:
        """Begin at the end of what is committed."""
        while numbering.number():
            pass
        last = EventBatch.objects.filter(seq_from__isnull=False).order_by("-seq_from").first()
        seq = last.seq_from + last.count - 1 if last is not None and last.seq_from is not None else 0
        self._ring.clear()
        self._end = Cursor(self._read_stream(), seq)
        self._looked_at_stream = time.monotonic()
        return self._end

    def _missed(self, since: Cursor, end: Cursor) -> list[Event] | None:
        """What came after `since`; None when that cannot be told, or is too much."""
        if since.stream != end.stream or not 0 <= end.seq - since.seq <= RING:
            return None
        if since.seq == end.seq:
            return []
        oldest = self._ring[0].seq if self._ring else end.seq + 1
        if since.seq + 1 < oldest:
            earlier = _stored(since, Cursor(end.stream, oldest - 1))
            if earlier is None:
                return None
            self._ring.extendleft(reversed(earlier))  # after a restart everybody comes back: read them once
        return [event for event in self._ring if event.seq > since.seq]

    def _look(self) -> None:
        if self._end is None:
            return
        if not self._subscriptions:
            self._end = None  # whoever comes next finds out where the end is then
            return
        if time.monotonic() - self._looked_at_stream > STREAM_LOOK_S:
            self._looked_at_stream = time.monotonic()
            if self._read_stream() != self._end.stream:
                self._begin_anew()
                return
        if numbering.number():
            hints.tell_others(hints.NEWS)  # who came too late to number them can read them now
        while rows := list(EventBatch.objects.filter(seq_from__gt=self._end.seq).order_by("seq_from")[:READ]):
            self._take_over(self._end, rows)

    def _take_over(self, end: Cursor, rows: Sequence[EventBatch]) -> None:
        events: list[Event] = []
        seq = end.seq
        for row in rows:
            assert row.seq_from is not None
            if row.seq_from != seq + 1:  # deleted before this process read them
                self._begin_anew()
                return
            events += unpack(end.stream, row.seq_from, row.events, row.created_at)
            seq = row.seq_from + row.count - 1
        self._ring.extend(events)
        self._end = Cursor(end.stream, seq)
        place = self._end
        self._tell([item for item in list(self._subscriptions) if item.offer(events, place)])

    def _begin_anew(self) -> None:
        self._awake()
        everybody = list(self._subscriptions)
        for subscription in everybody:
            subscription.drop()
        self._tell(everybody)

    @staticmethod
    def _tell(subscriptions: Iterable[Subscription]) -> None:
        """Wake the clients: one call for each event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions:
            by_loop[subscription.loop].append(subscription)
        for loop, group in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process stops
                loop.call_soon_threadsafe(_wake_all, group)


def _wake_all(subscriptions: Iterable[Subscription]) -> None:
    encoder = Encoder()
    for subscription in subscriptions:
        subscription.push(encoder)


def _stored(since: Cursor, end: Cursor) -> list[Event] | None:
    """The same from the table; None when it is not there any more."""
    known = EventBatch.objects.filter(seq_from__lte=since.seq + 1).order_by("-seq_from").first()
    if known is None:
        return None
    rows = EventBatch.objects.filter(seq_from__gte=known.seq_from, seq_from__lte=end.seq).order_by("seq_from")
    events = [
        event for row in rows for event in unpack(end.stream, row.seq_from or 0, row.events, row.created_at)
    ]
    wanted = [event for event in events if since.seq < event.seq <= end.seq]
    return wanted if len(wanted) == end.seq - since.seq else None
