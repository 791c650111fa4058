"""Limits on guessing: of passwords per address and per user name from an address, of sign-in links per address.

A try costs one before it is looked at, and what was right gets it back: so only wrong ones count, however many come
at once. No count is of a name alone: from one address nobody can lock out an operator at another. They are no limit
on work, so `--no-rate-limit` leaves them on.
"""

import math
from dataclasses import dataclass

from django.http import HttpRequest

from clusterconfig import throttling
from retire_cluster.api import client
from retire_cluster.api.rates import Window
from retire_cluster.credentials import digest

WINDOW_S = 15 * 60
OF_A_NAME = (Window(10, WINDOW_S, "10 in 15 minutes"),)
OF_AN_ADDRESS = (Window(30, WINDOW_S, "30 in 15 minutes"),)  # several people may share one

Counts = tuple[tuple[str, tuple[Window, ...]], ...]


class TooManyTriesError(Exception):
    """Nothing more is looked at from there for `wait_s` seconds."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"too many wrong tries; the next one in {wait_s} s")
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Try:
    """What a try cost."""

    counts: Counts

    def was_right(self) -> None:
        """Give back what it cost."""
        for key, windows in self.counts:
            throttling.store().give_back(key, windows)


def password(request: HttpRequest, username: str) -> Try:
    """Count a password about to be tried. Raises TooManyTriesError."""
    address = client.address(request)
    return _counted(
        (f"password:{address}", OF_AN_ADDRESS), (f"password:{address}:{digest(username)}", OF_A_NAME)
    )


def link(request: HttpRequest) -> Try:
    """Count a sign-in link about to be tried: apart, for it is the way out after too many passwords."""
    return _counted((f"link:{client.address(request)}", OF_AN_ADDRESS))


def _counted(*counts: tuple[str, tuple[Window, ...]]) -> Try:
    for number, (key, windows) in enumerate(counts):
        refused = throttling.store().hit(key, windows).refused
        if refused:
            Try(counts[:number]).was_right()
            raise TooManyTriesError(max(1, math.ceil(refused.frees_in_s)))
    return Try(counts)
