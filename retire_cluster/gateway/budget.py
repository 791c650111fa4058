"""What one device may send: frames, bytes and rows, each so many a second on average.

A quiet device saves up for a burst; one that overdraws pays with the time in which its debt is worked off, also
over connections. An honest agent stays far below: the figures bound what a hostile one can make the others wait.
"""

import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from retire_cluster.gateway import translate
from retire_cluster.protocol.codec import BadFrame
from retire_cluster.protocol.messages import Message

MAX_ROWS_IN_FRAME = 16_384  # an agent's held list has 4,096
DEVICES_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many a second on average, and so many at once after a quiet time."""

    per_s: float
    at_once: float


# Rows are messages, or the attempts they name: each costs the committer a look-up of 20 microseconds. The burst of
# bytes lets a device with 32 slots deliver a largest result from each at once.
ALLOWANCES = {
    "frames": Allowance(per_s=1_000, at_once=20_000),
    "bytes": Allowance(per_s=8 * 2**20, at_once=256 * 2**20),
    "rows": Allowance(per_s=10_000, at_once=100_000),
}


class Budget:
    """One device's account. Belongs to the event loop's thread."""

    def __init__(self, now: float) -> None:
        self._left = {name: allowance.at_once for name, allowance in ALLOWANCES.items()}
        self._at = now

    def spend(self, now: float, **costs: int) -> str | None:
        """Pay for something; None, or in words which account was empty before. `now` is monotonic."""
        passed, self._at = now - self._at, now
        for name, allowance in ALLOWANCES.items():
            self._left[name] = min(allowance.at_once, self._left[name] + passed * allowance.per_s)
        empty = next((name for name in costs if self._left[name] <= 0), None)
        if empty is not None:
            return f"it sends more than {ALLOWANCES[empty].per_s:,.0f} {empty} a second"
        for name, cost in costs.items():
            self._left[name] -= cost
        return None


class Budgets:
    """The accounts of all devices, by id; the one unused for longest is forgotten first."""

    def __init__(self) -> None:
        self._by_device: OrderedDict[str, Budget] = OrderedDict()

    def of(self, device_id: str) -> Budget:
        """The device's account. Ask for it once the device proved who it is: it would pay for impostors."""
        budget = self._by_device.setdefault(device_id, Budget(time.monotonic()))
        self._by_device.move_to_end(device_id)
        if len(self._by_device) > DEVICES_KEPT:
            self._by_device.popitem(last=False)
        return budget


def within_frame(messages: list[Message]) -> list[Message]:
    """The messages of one frame. Raises BadFrame when they name more attempts than any agent holds."""
    if rows_in(messages) > MAX_ROWS_IN_FRAME:
        raise BadFrame(f"a frame may name {MAX_ROWS_IN_FRAME:,} attempts")
    return messages


def rows_in(messages: Iterable[Message]) -> int:
    """How many rows the committer looks up for the messages, at least one for each."""
    return sum(max(1, len(translate.attempts_in(message))) for message in messages)
