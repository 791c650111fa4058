"""One client's unread events, and the short way to its connection.

A client that keeps up costs a write for all that is new, of bytes that were made once for everybody: its coroutine
sleeps. One that does not is served by its coroutine, which waits until the connection takes more.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from retire_cluster.events.frames import Cursor, Event, Wanted, websocket_text

MAX_UNREAD = 1000  # events a client may leave unread
MAX_UNREAD_BYTES = 256 * 1024
MAX_WRITE_BYTES = 64 * 1024  # in one go: then the connection is asked again whether it takes more

# Writes whole frames to a connection; False when it takes none now.
Write = Callable[[bytes], bool]


class Encoder:
    """Events as bytes for the wire, made once for all clients that get the same ones at the same time."""

    def __init__(self) -> None:
        self._made: dict[tuple[Wanted, int, int], bytes] = {}

    def frames(self, wanted: Wanted, events: Sequence[Event]) -> bytes:
        """The events, which are all that was wanted from the first to the last one."""
        key = (wanted, events[0].seq, events[-1].seq)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = b"".join(websocket_text(event.text) for event in events)
        return made


class Subscription:
    """`offer` in the tail's thread, all else in the client's loop. `write`: the short way, where there is one."""

    def __init__(self, wanted: Wanted, write: Write | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.news = asyncio.Event()
        self.lagged = False  # events were dropped: the client has to begin anew
        self.place: Cursor | None = None  # the last event looked at, wanted or not
        self._wanted = wanted
        self._write = write
        self._at_rest = False  # the client's coroutine has nothing to say
        self._told_at = time.monotonic()
        self._guard = threading.Lock()
        self._unread: deque[Event] = deque()
        self._bytes = 0

    def begin(self, place: Cursor) -> None:
        """Forget what was unread; what is offered from now on comes after the place."""
        with self._guard:
            self.place = place
            self.lagged = False
            self._unread.clear()
            self._bytes = 0

    def wants(self, events: Iterable[Event]) -> list[Event]:
        """Those of the events the client asked for."""
        return [event for event in events if self._wanted.includes(event)]

    def offer(self, events: Iterable[Event], place: Cursor) -> bool:
        """Take over what is wanted; whether there is something new for the client."""
        wanted = self.wants(events)
        with self._guard:
            self.place = place
            for event in wanted:
                if self.lagged:
                    break
                self._unread.append(event)
                self._bytes += len(event.text)
                if len(self._unread) > MAX_UNREAD or self._bytes > MAX_UNREAD_BYTES:
                    self._drop()
        return bool(wanted)

    def drop(self) -> None:
        """Nobody knows what is missing here."""
        with self._guard:
            self._drop()

    def _drop(self) -> None:
        self._unread.clear()
        self._bytes = 0
        self.lagged = True

    def push(self, encoder: Encoder) -> None:
        """Write what is unread where the connection takes it; wake the client for all else."""
        if self._write is None or not self._at_rest:
            self.news.set()
            return
        with self._guard:
            while self._unread:
                events = self._next_write()
                if not self._write(encoder.frames(self._wanted, events)):
                    break
                for event in events:
                    self._unread.popleft()
                    self._bytes -= len(event.text)
                self._told_at = time.monotonic()
            is_behind = self.lagged or bool(self._unread)
        if is_behind:
            self.news.set()

    def _next_write(self) -> list[Event]:
        """The first of the unread events, no more than one write may have, but one at least."""
        if self._bytes <= MAX_WRITE_BYTES:
            return list(self._unread)
        size, count = len(self._unread[0].text), 1
        for event in islice(self._unread, 1, None):
            size += len(event.text)
            if size > MAX_WRITE_BYTES:
                break
            count += 1
        return list(islice(self._unread, count))

    async def wait(self, silence_s: float) -> bool:
        """Whether there were news before the client had heard nothing for so long; returns within this time.

        News may be with the client already: written straight to its connection, or taken before the wake-up.
        """
        left = min(silence_s, self._told_at + silence_s - time.monotonic())
        self._at_rest = self._write is not None
        if self._at_rest:
            self.push(Encoder())  # what came while the client was busy
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self.news.wait()
        self._at_rest = False
        if self.news.is_set():
            return True
        now = time.monotonic()
        if self._told_at + silence_s > now:
            return True
        self._told_at = now  # of its silence
        return False

    def take(self) -> Event | None:
        """The next event; None when all are taken."""
        with self._guard:
            if not self._unread:
                if not self.lagged:
                    self.news.clear()
                return None
            event = self._unread.popleft()
            self._bytes -= len(event.text)
            self._told_at = time.monotonic()
            return event
