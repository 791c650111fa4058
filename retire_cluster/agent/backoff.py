"""How long to wait before the next try."""

import random
from collections.abc import Callable


class Backoff:
    """Exponential with jitter: the n-th delay is uniform in [1/2, 1] of min(longest, first * 2**n) seconds."""

    def __init__(
        self,
        first: float = 0.2,
        longest: float = 30.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first = first
        self.longest = longest
        self._uniform = uniform
        self._tries = 0
        self.is_longest = False  # the last delay was of the longest kind: from now on they grow no more

    def next(self) -> float:
        """Seconds to wait now; the next call waits longer."""
        ceiling = min(self.longest, self._first * 2 ** min(self._tries, 32))
        self._tries += 1
        self.is_longest = ceiling >= self.longest
        return self._uniform(ceiling / 2, ceiling)

    def reset(self) -> None:
        """Start anew: the last connection was a stable one."""
        self._tries = 0
        self.is_longest = False
