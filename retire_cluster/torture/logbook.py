"""What the logs of a chaos run say: which lines tell of a defect, and which only of the outage that was made. Pure.

A line is excused only by a blow of a kind that explains it, while it lasts or shortly afterwards.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

EXPLAINED_S = 30.0  # so long after a blow its effects may still be logged
SOONER_S = 1.0  # a signal acts before its sender notes the time
SHOWN = 300  # characters of a line
# Whoever has to be told of these has lost work already, whatever was hurt.
NEVER = re.compile(r"database is locked|deadlock detected")
_ERROR = re.compile(
    r'^Traceback \(most recent call last\)|"level": "(?:ERROR|CRITICAL)"|\[(?:ERROR|CRITICAL)\]|(?:ERROR|CRITICAL)/'
)


@dataclass(frozen=True, slots=True)
class Excuse:
    """Lines that belong to an outage, and the kinds of blows that make it."""

    what: str
    pattern: str
    blows: frozenset[str]


@dataclass(frozen=True, slots=True)
class Struck:
    """A blow that was dealt, in seconds since the epoch until its victim was up again."""

    kind: str
    since: float
    until: float


_AWAY = "PostgreSQL's connections ended"
EXCUSES = (
    Excuse(
        "the gateway waits for its database and commits afterwards",
        r'"retire_cluster\.gateway", "message": "the database does not answer',
        frozenset({_AWAY, "gateway stopped"}),
    ),
    Excuse(
        "the API answers 503 while its connections end",
        r'"api\.errors", "message": "database unavailable',
        frozenset({_AWAY}),
    ),
    Excuse(
        "a job of Celery's ends with its connection; the next one does its work",
        r'"celery\.app\.trace", "message": "Task tasks\.\w+.* raised unexpected: OperationalError',
        frozenset({_AWAY}),
    ),
    Excuse(
        "Celery's worker and beat try to reach Redis until it is back",
        r'"celery\.\w+[\w.]*", "message": "(?:consumer: Cannot connect to redis|beat: Connection error)',
        frozenset({"Redis killed"}),
    ),
    Excuse(
        "Celery's gossip among workers fails while they connect anew; nothing here listens to it",
        r'"celery\.bootsteps", "message": "Error on restarting Gossip',
        frozenset({"Redis killed"}),
    ),
    Excuse(
        "gunicorn replaces a worker that was killed",
        r"\[ERROR\] Worker \(pid:\d+\) (?:was sent SIGKILL|exited)",
        frozenset({"gunicorn worker killed", "gunicorn killed"}),
    ),
    Excuse(
        "Celery replaces a child that was killed",
        r"ERROR/MainProcess\] Process '\S+' pid:\d+ exited with 'signal 9 \(SIGKILL\)'",
        frozenset({"Celery worker's child killed", "Celery worker killed"}),
    ),
)


@dataclass
class Logbook:
    """Lines that tell of a defect, and how many were excused."""

    complaints: list[str] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)

    def read(self, name: str, lines: Iterable[str], blows: Sequence[Struck]) -> None:
        """Judge one program's log."""
        for line in lines:
            if NEVER.search(line):
                self.complaints.append(f"{name} has: {line[:SHOWN]}")
            elif _ERROR.search(line):
                self._judge(name, line, blows)

    def _judge(self, name: str, line: str, blows: Sequence[Struck]) -> None:
        moment = _moment(line)
        for excuse in EXCUSES:
            if re.search(excuse.pattern, line) and any(_explains(blow, excuse, moment) for blow in blows):
                self.excused[excuse.what] += 1
                return
        self.complaints.append(f"{name} has: {line[:SHOWN]}")


def _explains(blow: Struck, excuse: Excuse, moment: float | None) -> bool:
    if blow.kind not in excuse.blows:
        return False
    return moment is None or blow.since - SOONER_S <= moment <= blow.until + EXPLAINED_S


def _moment(line: str) -> float | None:
    """When a line of ours was written; other programs' lines say it in many ways."""
    if not line.startswith("{"):
        return None
    try:
        return datetime.fromisoformat(str(json.loads(line)["timestamp"])).timestamp()
    except (ValueError, KeyError):
        return None
