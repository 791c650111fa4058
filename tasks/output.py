"""What tasks print, as it arrives while they run: stored in order, once, and never more than head and tail of it.

An offset is a position in characters in all that a task printed, over its attempts; what was left out on the device
counts in bytes. So offsets grow, and a gap between two pieces tells how much is missing there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Max, OuterRef, Q, Subquery

from retire_cluster.protocol.states import Stream
from tasks import tales
from tasks.models import OutputChunk

HEAD = TAIL = 1024 * 1024  # positions kept of the beginning, and of the end
HEAD_PIECES = TAIL_PIECES = 5000  # of one attempt: a line a second for over an hour, each
MAX_LEFT_OUT = 2**40  # a device may say what it likes
MAX_OFFSET = 2**52  # every JSON reader keeps it exactly


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an attempt's output; `number` counts them, `left_out` are bytes missing before it."""

    task_id: UUID
    attempt: int
    number: int
    stream: Stream
    text: str
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class _End:
    """Where the output of a task ends now."""

    offset: int = 0
    attempt: int = 0
    number: int = -1

    def precedes(self, piece: Piece) -> bool:
        """Whether the piece is news: not stored before, and not of an attempt that was given up since."""
        return (self.attempt, self.number) < (piece.attempt, piece.number)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a task's output, and where to go on; `more` tells whether there was more at this moment."""

    chunks: list[OutputChunk]
    next_offset: int
    more: bool


def append(pieces: Sequence[Piece], *, now: datetime) -> None:
    """Store what is news, in one look-up and one insert. Inside a write transaction."""
    if not pieces:
        return
    ends = _ends({piece.task_id for piece in pieces})
    rows: list[OutputChunk] = []
    for piece in pieces:
        end = ends.get(piece.task_id, _End())
        offset = end.offset + min(piece.left_out, MAX_LEFT_OUT)
        if not piece.text or not end.precedes(piece) or offset > MAX_OFFSET:
            continue
        rows.append(_row(piece, offset, now))
        ends[piece.task_id] = _End(offset + len(piece.text), piece.attempt, piece.number)
    # A session that moved may have two gateways store the same for a moment.
    OutputChunk.objects.bulk_create(rows, ignore_conflicts=True)
    grown = sorted({row.task_id for row in rows})
    for task_id in grown:
        _prune(task_id, ends[task_id])
    tales.of_output((task_id, ends[task_id].offset) for task_id in grown)


def read(task_id: UUID, *, offset: int, limit: int) -> Page:
    """At most `limit` pieces from the offset on. One query."""
    found = OutputChunk.objects.filter(task_id=task_id, offset__gte=offset).order_by("offset")
    rows = list(found[: limit + 1])
    chunks = rows[:limit]
    next_offset = chunks[-1].offset + len(chunks[-1].text) if chunks else offset
    return Page(chunks, next_offset, len(rows) > limit)


def _ends(task_ids: Iterable[UUID]) -> dict[UUID, _End]:
    last = (
        OutputChunk.objects.filter(task_id=OuterRef("task_id"))
        .order_by()
        .values("task_id")
        .annotate(last=Max("offset"))
        .values("last")
    )
    rows = OutputChunk.objects.filter(task_id__in=task_ids).filter(offset=Subquery(last))
    return {row.task_id: _End(row.offset + len(row.text), row.attempt, row.number) for row in rows}


def _row(piece: Piece, offset: int, now: datetime) -> OutputChunk:
    return OutputChunk(
        task_id=piece.task_id,
        offset=offset,
        attempt=piece.attempt,
        number=piece.number,
        stream=piece.stream.value,
        text=piece.text,
        at=now,
    )


def _prune(task_id: UUID, end: _End) -> None:
    """Delete the middle of what has become too much."""
    if end.offset <= HEAD + TAIL and end.number < HEAD_PIECES + TAIL_PIECES:
        return
    middle = Q(offset__gte=HEAD, offset__lt=end.offset - TAIL)
    pieces = Q(attempt=end.attempt, number__gte=HEAD_PIECES, number__lt=end.number - TAIL_PIECES)
    OutputChunk.objects.filter(Q(task_id=task_id) & (middle | pieces)).delete()
