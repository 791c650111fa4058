"""Limits against a hostile neighbour on the LAN: sockets that never register, tokens tried one after another."""

import time
from collections import defaultdict, deque

from retire_cluster.gateway.budget import Budgets
from retire_cluster.gateway.complaints import Complaints

REGISTER_WITHIN_S = 5.0
MAX_UNREGISTERED = 64  # sockets per address that have not proved who they are
MAX_FAILED_JOINS = 10  # per address and minute
_WINDOW_S = 60.0
_ADDRESSES_KEPT = 10_000


class Guard:
    """Counts per address, and holds what is counted per device. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self.budgets = Budgets()
        self.complaints = Complaints()
        self._unregistered: dict[str, int] = defaultdict(int)
        self._failures: dict[str, deque[float]] = {}

    def admits(self, address: str) -> str | None:
        """None, or why this address may not open another connection now."""
        if self._unregistered[address] >= MAX_UNREGISTERED:
            return f"{MAX_UNREGISTERED} connections from {address} have not registered yet"
        failures = self._failures.get(address)
        while failures and failures[0] < time.monotonic() - _WINDOW_S:
            failures.popleft()
        if failures and len(failures) >= MAX_FAILED_JOINS:
            return f"{MAX_FAILED_JOINS} joins from {address} failed within a minute; wait a minute"
        return None

    def entered(self, address: str) -> None:
        self._unregistered[address] += 1

    def left(self, address: str) -> None:
        """The connection registered, or is gone."""
        self._unregistered[address] -= 1
        if self._unregistered[address] <= 0:
            del self._unregistered[address]

    def failed(self, address: str) -> None:
        """A join was refused for its token or secret."""
        if len(self._failures) >= _ADDRESSES_KEPT:
            self._failures.pop(next(iter(self._failures)))
        self._failures.setdefault(address, deque(maxlen=MAX_FAILED_JOINS)).append(time.monotonic())
