"""Devices at rest are read in rounds: what all of them sent, twice a second.

A thousand devices send a heartbeat each 30 ms. To wake up for each, in the event loop and in the committer, costs
several times what the heartbeat itself does.
"""

import asyncio
from collections.abc import Callable

AT_ONCE = 16  # reads in one pass of the event loop, some 4 ms: what is urgent has its turn between them
ROUND_S = 0.5  # how late a heartbeat may be read; far less than the least silence after CALM_S


class Rounds:
    """What is to be read in the next round. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._reads: list[Callable[[], None]] = []

    def add(self, read: Callable[[], None]) -> None:
        """Call it with the next round."""
        if not self._reads:
            asyncio.get_running_loop().call_later(ROUND_S, self._begin)
        self._reads.append(read)

    def _begin(self) -> None:
        reads, self._reads = self._reads[:AT_ONCE], self._reads[AT_ONCE:]
        loop = asyncio.get_running_loop()
        for read in reads:
            loop.call_soon(read)  # each on its own: what one raises is not the others' trouble
        if self._reads:
            loop.call_soon(self._begin)
