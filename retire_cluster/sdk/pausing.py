"""Time as the SDK sees it, and how long to wait before a call is tried again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
LONGEST_RETRY_AFTER_S = 120.0  # who is told to wait longer decides that for himself


class Clock:
    """The real one; tests pass one that does not wait."""

    def now(self) -> float:
        """Seconds that only ever grow."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Retries:
    """At most `most` tries after the first, with exponential back-off and jitter."""

    most: int = 5
    uniform: Callable[[float, float], float] = random.uniform

    def pause(self, tries: int, retry_after: float | None = None) -> float | None:
        """Seconds to wait after so many failed tries (1 or more); None: give up.

        Uniform in [1/2, 1] of the back-off; of a server's Retry-After never less than it says.
        """
        if tries > self.most:
            return None
        ceiling = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries - 1, 32))
        if retry_after is None:
            return self.uniform(ceiling / 2, ceiling)
        if retry_after > LONGEST_RETRY_AFTER_S:
            return None
        return retry_after + self.uniform(0, FIRST_PAUSE_S)


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks to wait (RFC 9110, 10.2.3); None where it says nothing sensible."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max(0.0, (moment - now).total_seconds())
