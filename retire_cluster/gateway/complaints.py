"""Log lines about misbehaviour, some a minute for each culprit: who misbehaves must not fill the disk with it."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

LINES_A_MINUTE = 20
WINDOW_S = 60.0
CULPRITS_KEPT = 10_000

logger = logging.getLogger("retire_cluster.gateway")


@dataclass(slots=True)
class _Count:
    since: float
    lines: int = 0


class Complaints:
    """Counts lines per culprit: a device id, or the address of a stranger. Belongs to one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def log(self, culprit: str, message: str, *args: object, **extra: object) -> None:
        """A warning, unless the culprit had its lines for this minute; the first one afterwards says how many."""
        count = self._count(culprit)
        count.lines += 1
        if count.lines <= LINES_A_MINUTE:
            logger.warning(message, *args, extra=extra)
        if count.lines == LINES_A_MINUTE:
            logger.warning("no more about %s for a minute", culprit, extra={"action": "complaint"})

    def _count(self, culprit: str) -> _Count:
        now = self._clock()
        count = self._counts.get(culprit)
        if count is None or now - count.since >= WINDOW_S:
            self._report(culprit, count)
            count = self._counts[culprit] = _Count(now)
            if len(self._counts) > CULPRITS_KEPT:
                self._counts.popitem(last=False)
        self._counts.move_to_end(culprit)
        return count

    def _report(self, culprit: str, count: _Count | None) -> None:
        left_out = 0 if count is None else count.lines - LINES_A_MINUTE
        if left_out > 0:
            logger.warning("%d more about %s were left out", left_out, culprit, extra={"action": "complaint"})
