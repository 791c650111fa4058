"""Link numbers: how a copy of a device's data directory is told from the original. Pure.

Each accepted connection gives the device a new number, which it stores and confirms. Whoever shows a number older
than the confirmed one uses data from before: a copy, or a backup that was restored.
"""

from enum import Enum


class LinkVerdict(Enum):
    """What the number shown at registration says about the data it comes from."""

    CURRENT = "current"
    LATE = "late"  # sent by the very process that has a newer connection
    COPIED = "copied"


def judge(shown: int | None, *, confirmed: int, same_run: bool) -> LinkVerdict:
    """Agents before link numbers show none, and no copy of theirs is found.

    A newer number than the confirmed one was given since, and stored, but not confirmed. One from the future is
    current as well: the database is the one that was restored.
    """
    if shown is None or shown >= confirmed:
        return LinkVerdict.CURRENT
    return LinkVerdict.LATE if same_run else LinkVerdict.COPIED


def following(given: int, shown: int | None) -> int:
    """The number of the next connection: no device ever sees one twice."""
    return max(given, shown or 0) + 1
