"""What running attempts print and how far they are, told to the gateway at most once a second.

The first words leave at once, so that whoever watches sees them; after that a second's worth travels together: a
server on an SD card must not write for every line. Output counts as delivered when it is acknowledged.
"""

import asyncio
from collections.abc import Callable

from retire_cluster.agent.execution.transcript import Transcript
from retire_cluster.protocol import jsontext
from retire_cluster.protocol.messages import Message, Progress
from retire_cluster.protocol.states import Stream

PERIOD_S = 1.0
COLLECT_S = 0.05  # what is printed in one go leaves in one go
MOST_PER_PERIOD = 64 * 1024  # characters of one attempt
MAX_KEPT = 4 * 1024 * 1024  # characters of ended attempts whose output nobody took yet
MAX_MESSAGE = 500


class Feed:
    """All attempts' output and progress. `send` is void without a connection; connected() makes good."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._running: dict[str, Transcript] = {}
        self._ended: dict[str, Transcript] = {}
        self._progress: dict[str, Progress] = {}
        self._news: dict[str, None] = {}  # attempts whose progress was not told yet
        self._timer: asyncio.TimerHandle | None = None
        self._next = float("-inf")  # the earliest moment to send again, on the loop's clock

    # --- from attempts --------------------------------------------------------------------------------------

    def write(self, attempt: str, stream: Stream, data: bytes) -> None:
        """The attempt printed something."""
        transcript = self._running.get(attempt)
        if transcript is None:
            transcript = self._running[attempt] = Transcript(attempt)
        transcript.write(stream, data)
        self._plan()

    def progress(self, attempt: str, percent: float | None, message: str) -> None:
        """The attempt is so far. Only the latest counts."""
        percent = None if percent is None or percent != percent else min(100.0, max(0.0, float(percent)))
        said: str = jsontext.loads(jsontext.dumps_lossy(message[:MAX_MESSAGE]))
        self._progress[attempt] = Progress(attempt=attempt, percent=percent, message=said[:MAX_MESSAGE])
        self._news[attempt] = None
        self._plan()

    def end(self, attempt: str) -> None:
        """The attempt is over: send all the rest now, before its result."""
        self._tell_progress(attempt)
        self._progress.pop(attempt, None)
        transcript = self._running.pop(attempt, None)
        if transcript is None:
            return
        transcript.close()
        for message in transcript.pieces():
            self._send(message)
        self._ended[attempt] = transcript
        while len(self._ended) > 1 and sum(item.size for item in self._ended.values()) > MAX_KEPT:
            del self._ended[next(iter(self._ended))]

    def drop(self, attempt: str) -> None:
        """Nobody wants to hear of the attempt any more."""
        for place in (self._running, self._ended, self._progress, self._news):
            place.pop(attempt, None)

    # --- from the connection --------------------------------------------------------------------------------

    def connected(self) -> None:
        """On a new connection: tell again what may be lost."""
        for transcript in (*self._ended.values(), *self._running.values()):
            for message in transcript.unacknowledged():
                self._send(message)
        self._news.update(dict.fromkeys(self._progress))
        if self._news:
            self._plan()

    def acknowledged(self, attempt: str, number: int) -> None:
        """The gateway has the pieces below the number."""
        transcript = self._running.get(attempt) or self._ended.get(attempt)
        if transcript is None:
            return
        transcript.acknowledged(number)
        if attempt in self._ended and transcript.is_empty:
            del self._ended[attempt]
        elif transcript.has_news:
            self._plan()

    # --- pieces ---------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time() + COLLECT_S, self._next), self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._next = asyncio.get_running_loop().time() + PERIOD_S
        for attempt in list(self._news):
            self._tell_progress(attempt)
        for transcript in self._running.values():
            for message in transcript.pieces(MOST_PER_PERIOD):
                self._send(message)
        if any(transcript.has_news for transcript in self._running.values()):
            self._plan()

    def _tell_progress(self, attempt: str) -> None:
        if attempt in self._news:
            del self._news[attempt]
            self._send(self._progress[attempt])
