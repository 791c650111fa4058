"""Geometry of the drawings: SVG attributes, so that a page is a picture without any script. Pure.

Widths and positions are in the units of a viewBox, which the page stretches to the room there is.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks.history import Bar, Depth

WIDTH, HEIGHT = 600.0, 100.0
MINUTE = timedelta(minutes=1)
BEATS = 30
BEAT_HEIGHT = 16
BEAT_TOPS = {"ok": 0, "miss": 10, "unknown": 13}
THINNEST = 0.4  # percent of a row
# In the order in which they are stacked. Lost and returned attempts are not the task's fault.
OUTCOMES = ("success", "failed", "timeout", "cancelled", "lost", "returned")


@dataclass(frozen=True, slots=True)
class Rect:
    """A box; `kind` is its class, `label` what it says to somebody who does not see it."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points, and the area below it."""

    points: str
    area: str
    kind: str
    last: float | None


@dataclass(frozen=True, slots=True)
class Chart:
    """Boxes or lines over a span, with the highest value of the scale."""

    top: float
    rects: Sequence[Rect] = ()
    lines: Sequence[Line] = ()
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """An attempt's bar in a row of the stream, in percent of the row."""

    x: float
    width: float
    outcome: str
    bar: Bar


def stream(bars: Iterable[Bar], *, since: datetime, until: datetime) -> dict[str, list[Piece]]:
    """The bars of each device. One that is too short to be seen is drawn a little wider than it is."""
    whole = until - since
    rows: dict[str, list[Piece]] = {}
    for bar in bars:
        began, ended = max(bar.began_at, since), min(bar.ended_at or until, until)
        x = min(100 * ((began - since) / whole), 100 - THINNEST)
        width = max(THINNEST, 100 * (max(ended - began, timedelta(0)) / whole))
        piece = Piece(round(x, 2), round(min(width, 100 - x), 2), bar.outcome or "running", bar)
        rows.setdefault(bar.device_id, []).append(piece)
    return rows


def throughput(ended: Mapping[datetime, Counter[str]], *, since: datetime, until: datetime) -> Chart:
    """A column for each minute, its outcomes stacked."""
    minutes = _minutes(since, until)
    most = max((ended[minute].total() for minute in minutes if minute in ended), default=0)
    top = nice(most)
    wide = WIDTH / max(1, len(minutes))
    rects: list[Rect] = []
    for number, minute in enumerate(minutes):
        base = HEIGHT
        for outcome in OUTCOMES:
            count = ended.get(minute, Counter())[outcome]
            if count:
                high = HEIGHT * count / top
                base -= high
                label = f"{minute:%H:%M} UTC: {count} {outcome}"
                rects.append(
                    Rect(
                        round(number * wide + 0.5, 2),
                        round(base, 2),
                        round(wide - 1, 2),
                        round(high, 2),
                        outcome,
                        label,
                    )
                )
    total = sum(count.total() for count in ended.values())
    return Chart(top, rects=rects, summary=f"{total:,} attempts ended, at most {most:,} a minute")


def queue(depths: Sequence[Depth], now: Depth, *, since: datetime) -> Chart:
    """What waited and ran, as steps from one look to the next."""
    seen = [*depths, now]
    top = nice(max((max(depth.waiting, depth.running) for depth in seen), default=0))
    lines = [
        _steps([(depth.at, value(depth)) for depth in seen], since=since, until=now.at, top=top, kind=kind)
        for kind, value in (("waiting", _waiting), ("running", _running))
    ]
    return Chart(top, lines=lines, summary=f"{now.waiting:,} waiting and {now.running:,} running now")


def _waiting(depth: Depth) -> int:
    return depth.waiting


def _running(depth: Depth) -> int:
    return depth.running


def curve(
    samples: Sequence[tuple[datetime, float | None]],
    *,
    since: datetime,
    until: datetime,
    kind: str,
    top: float = 0,
) -> Chart:
    """A measured value over time; unknown readings are left out. `top` 0: as the values need it."""
    known = [(at, value) for at, value in samples if value is not None and since <= at <= until]
    scale = top or nice(max((value for _, value in known), default=0))
    points = [(_x(at, since, until), _y(value, scale)) for at, value in known]
    last = known[-1][1] if known else None
    return Chart(scale, lines=[_line(points, kind, last)] if points else [])


def beats(
    heard: Iterable[datetime], *, now: datetime, every: timedelta, known_since: datetime | None
) -> list[str]:
    """The last BEATS intervals, oldest first: `ok`, `miss`, or `unknown` before anything was recorded."""
    times = sorted(heard)
    oldest = min([*times[:1], *([known_since] if known_since else [])], default=None)
    came = {(now - at) // every for at in times if at <= now}  # 0 is the interval that ends now
    found = []
    for number in reversed(range(BEATS)):
        if number in came:
            found.append("ok")
        else:
            start = now - (number + 1) * every
            found.append("miss" if oldest is not None and start > oldest else "unknown")
    return found


def beat_paths(found: Sequence[str]) -> list[tuple[str, str]]:
    """What draws the intervals, a path for each kind: a page with a fleet on it has hundreds of them."""
    paths: dict[str, str] = {}
    for number, kind in enumerate(found):
        top = BEAT_TOPS[kind]
        paths[kind] = f"{paths.get(kind, '')}M{10 * number} {top}h8V{BEAT_HEIGHT}h-8z"
    return list(paths.items())


def nice(value: float) -> float:
    """The next round number that is not below: 1, 2, 5, 10, 20, 50..."""
    scale = 1.0
    while True:
        for step in (1, 2, 5):
            if value <= step * scale:
                return step * scale
        scale *= 10


def _minutes(since: datetime, until: datetime) -> list[datetime]:
    first = since.replace(second=0, microsecond=0)
    return [first + number * MINUTE for number in range(int((until - first) / MINUTE) + 1)]


def _steps(
    values: Sequence[tuple[datetime, float]], *, since: datetime, until: datetime, top: float, kind: str
) -> Line:
    points: list[tuple[float, float]] = []
    for at, value in values:
        x, y = _x(max(at, since), since, until), _y(value, top)
        if points:
            points.append((x, points[-1][1]))
        points.append((x, y))
    return _line(points, kind, values[-1][1] if values else None)


def _line(points: Sequence[tuple[float, float]], kind: str, last: float | None) -> Line:
    if len(points) == 1:  # one reading is a dot, not nothing
        points = [(points[0][0] - 4, points[0][1]), points[0]]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    area = f"{points[0][0]:.1f},{HEIGHT:g} {path} {points[-1][0]:.1f},{HEIGHT:g}" if points else ""
    return Line(path, area, kind, last)


def _x(at: datetime, since: datetime, until: datetime) -> float:
    return WIDTH * ((at - since) / (until - since)) if until > since else WIDTH


def _y(value: float, top: float) -> float:
    return HEIGHT * (1 - min(max(value / top, 0), 1))
