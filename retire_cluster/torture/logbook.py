"""What the logs of a chaos run say: which lines tell of a defect, and which only of the outage that was made. Pure.

A line is excused only by a blow of a kind that explains it, while it lasts or shortly afterwards.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

EXPLAINED_S = 30.0  # so long after a blow its effects may still be logged
SOONER_S = 1.0  # a signal acts before its sender notes the time
SHOWN = 300  # characters of a line
# Whatever was hurt: these were not dissolved without anybody's loss. PostgreSQL's own line of a deadlock only says
# that it dissolved one; who was its victim has to do the work again, and must not fail by it.
NEVER = re.compile(r"database is locked|(?<!ERROR:  )deadlock detected")
DISSOLVED = "ERROR:  deadlock detected"
_TRACEBACK = "Traceback (most recent call last)"
_ERROR = re.compile(
    r"(?m:^Traceback \(most recent call last\))"
    r'|"level": "(?:ERROR|CRITICAL)"|\[(?:ERROR|CRITICAL)\]|(?:ERROR|CRITICAL)/'
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
        r'"retire_cluster\.gateway", "message": "nothing is committed \(for \d+ s\): the database does not answer',
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
        r'"celery\.bootsteps", "message": "Error on (?:restarting|stopping) Gossip',
        frozenset({"Redis killed"}),
    ),
    Excuse(
        "gunicorn replaces a worker that was killed",
        r"\[ERROR\] Worker \(pid:\d+\) (?:was sent SIGKILL|exited)",
        frozenset({"gunicorn worker killed", "gunicorn killed"}),
    ),
    Excuse(
        "beat goes on with the next turn of a job it could not send",
        r'"celery\.beat", "message": "Message Error: Couldn.t apply scheduled task',
        frozenset({"Redis killed"}),
    ),
    Excuse(
        "Celery replaces a child that was killed, and gives up its job",
        r"ERROR/MainProcess\] Process '\S+' pid:\d+ exited with 'signal 9 \(SIGKILL\)'"
        r'|"celery\.worker\.request", "message": "Task handler raised error: WorkerLostError',
        frozenset({"Celery worker's child killed", "Celery worker killed"}),
    ),
    Excuse(
        "Celery's worker ends when its child is killed before it has begun",
        r'"celery\.worker", "message": "Unrecoverable error: WorkerLostError'
        r'|"celery\.concurrency\.asynpool", "message": "Timed out waiting for UP message',
        frozenset({"Celery worker's child killed", "Celery worker killed"}),
    ),
    Excuse(
        "Celery cannot acknowledge a message to a Redis that is gone; all of them are hints",
        r'"celery\.worker\.request", "message": "Couldn.t ack \W*[0-9a-f-]{36}\W*, reason:\w*:?ConnectionError',
        frozenset({"Redis killed"}),
    ),
    Excuse(
        "Celery's worker ends when Redis goes away while it connects anew: kombu forgets where to",
        r'"celery\.worker", "message": "Unrecoverable error: '
        r"(?:AttributeError..\W*NoneType\W* object|StopIteration\(\))",
        frozenset({"Redis killed"}),
    ),
    Excuse(
        "whoever looks after its worker starts it again",
        r"^celery-\d ended by itself",
        frozenset({"Celery worker's child killed", "Redis killed"}),
    ),
    Excuse(
        "a child of Celery's cannot speak to its parent, which was killed",
        r"ERROR/ForkPoolWorker-\d+\] Process ForkPoolWorker-\d+\n(?s:.*)\nBrokenPipeError",
        frozenset({"Celery worker killed"}),
    ),
)


@dataclass
class Logbook:
    """Lines that tell of a defect, and how many were excused."""

    complaints: list[str] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)
    deadlocks: int = 0  # that PostgreSQL dissolved

    def read(self, name: str, lines: Iterable[str], blows: Sequence[Struck]) -> None:
        """Judge one program's log."""
        for line in _entries(lines):
            self.deadlocks += DISSOLVED in line
            if NEVER.search(line):
                self.complaints.append(f"{name} has: {line[:SHOWN]}")
            elif _ERROR.search(line):
                self._judge(f"{name} has: {line[:SHOWN]}", line, _moment(line), blows)

    def end(self, what: str, moment: float, blows: Sequence[Struck]) -> None:
        """Judge that a program ended by itself at that time."""
        self._judge(what, what, moment, blows)

    def _judge(self, complaint: str, line: str, moment: float | None, blows: Sequence[Struck]) -> None:
        for excuse in EXCUSES:
            if re.search(excuse.pattern, line) and any(_explains(blow, excuse, moment) for blow in blows):
                self.excused[excuse.what] += 1
                return
        self.complaints.append(complaint)


def _entries(lines: Iterable[str]) -> Iterator[str]:
    """The lines, but a traceback as one with the line before it, which says whose it is."""
    entry: list[str] = []
    within = False
    for line in lines:
        begins = line.startswith(_TRACEBACK)
        if entry and not begins and not within:
            yield "\n".join(entry)
            entry = []
        # It ends with the line of the exception, which is not indented.
        within = begins or (within and (not line or line[0].isspace()))
        entry.append(line)
    if entry:
        yield "\n".join(entry)


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
