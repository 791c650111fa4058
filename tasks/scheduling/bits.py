"""Sets of devices as the bits of a number: bit n is the nth device. An AND of ten thousand takes 0.1 µs."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence

Level = tuple[float, ...]


def collect(flags: Iterable[bool]) -> int:
    """The set of those whose flag is set."""
    text = "".join("1" if flag else "0" for flag in flags)
    return int(text[::-1] or "0", 2)


def lowest(members: int) -> int:
    """The first of a set that is not empty."""
    return (members & -members).bit_length() - 1


def each(members: int) -> Iterator[int]:
    """The members of a set in order."""
    while members:
        first = lowest(members)
        yield first
        members ^= 1 << first


class Ordered:
    """Who has at least so much, exactly, of something that does not change. None has nothing."""

    STRIDE = 64  # a set is kept for each so many; what is between is put together when asked for

    def __init__(self, amounts: Sequence[int | None]) -> None:
        known = sorted((amount, number) for number, amount in enumerate(amounts) if amount is not None)
        self._amounts = [amount for amount, _ in known]
        self._numbers = [number for _, number in known]
        self._from = {len(known): 0}
        members = 0
        for place in range(len(known) - 1, -1, -1):
            members |= 1 << self._numbers[place]
            if place % self.STRIDE == 0:
                self._from[place] = members

    def at_least(self, wanted: float) -> int:
        """The set of those that have it."""
        start = bisect_left(self._amounts, wanted)
        kept = min(len(self._amounts), -(-start // self.STRIDE) * self.STRIDE)
        members = self._from[kept]
        for number in self._numbers[start:kept]:
            members |= 1 << number
        return members


class Gauge:
    """Who may have so much left of something that only shrinks: everybody who has, and few who have not.

    Sets are kept by amounts of two significant bits, made when first asked for and changed with each step.
    """

    def __init__(self, left: Sequence[int]) -> None:
        self._left = list(left)
        self._bounds: list[int] = []
        self._members: dict[int, int] = {}

    def at_least(self, wanted: int) -> int:
        """A set that holds all that have so much; exact up to 4."""
        low_bits = max(0, wanted.bit_length() - 2)
        bound = wanted >> low_bits << low_bits
        members = self._members.get(bound)
        if members is None:
            insort(self._bounds, bound)
            members = self._members[bound] = collect(amount >= bound for amount in self._left)
        return members

    def take(self, number: int, amount: int) -> None:
        """So much less is left of one."""
        if not amount:
            return
        before = self._left[number]
        self._left[number] = after = before - amount
        for bound in self._bounds[bisect_right(self._bounds, after) : bisect_right(self._bounds, before)]:
            self._members[bound] &= ~(1 << number)


class Levels:
    """Who stands on which level; the smallest level is best, and on a level the first."""

    def __init__(self, levels: Sequence[Level]) -> None:
        self._of = list(levels)
        self._members: dict[Level, int] = {}
        for number, level in enumerate(levels):
            self._members[level] = self._members.get(level, 0) | 1 << number
        self._order = sorted(self._members)

    def best(self, wanted: int, start: Level | None = None) -> tuple[int, Level] | None:
        """The best of a set that has nobody on a level before `start`, with the level."""
        place = 0 if start is None else bisect_left(self._order, start)
        for level in self._order[place:] if place else self._order:
            found = wanted & self._members[level]
            if found:
                return lowest(found), level
        return None

    def move(self, number: int, level: Level) -> None:
        """One now stands on another level."""
        bit = 1 << number
        self._members[self._of[number]] ^= bit
        self._of[number] = level
        if level not in self._members:
            insort(self._order, level)
            self._members[level] = 0
        self._members[level] |= bit
