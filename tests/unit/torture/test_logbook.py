"""A line of a log is a defect unless a blow explains it; some lines no blow explains."""

import json
from datetime import UTC, datetime

import pytest

from retire_cluster.torture.logbook import EXCUSES, EXPLAINED_S, Logbook, Struck

AT = 1_000_000.0
ENDED = Struck("PostgreSQL's connections ended", AT, AT + 1)


def line(logger: str, message: str, *, at: float = AT + 2, level: str = "ERROR") -> str:
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"timestamp": moment, "level": level, "logger": logger, "message": message})


AWAY = (
    "retire_cluster.gateway",
    "nothing is committed (for 0 s): the database does not answer: terminating connection",
)
# One for each excuse, in their order.
EXCUSED = {
    line(*AWAY): ENDED.kind,
    line("api.errors", "database unavailable: terminating connection"): ENDED.kind,
    line("celery.app.trace", "Task tasks.sweep[1-2] raised unexpected: OperationalError('x')"): ENDED.kind,
    line("celery.worker.consumer.consumer", "consumer: Cannot connect to redis://x: refused"): "Redis killed",
    line("celery.bootsteps", "Error on restarting Gossip: AttributeError('x')"): "Redis killed",
    "[2026-01-01 10:00:00 +0000] [7] [ERROR] Worker (pid:8) was sent SIGKILL!": "gunicorn worker killed",
    line("celery.beat", "Message Error: Couldn't apply scheduled task sweep: refused"): "Redis killed",
    "[2026-01-01 10:00:00,1: ERROR/MainProcess] Process 'F-1' pid:9 exited with 'signal 9 (SIGKILL)'": (
        "Celery worker's child killed"
    ),
    line("celery.worker", "Unrecoverable error: WorkerLostError('x')", level="CRITICAL"): (
        "Celery worker's child killed"
    ),
    line(
        "celery.worker.request",
        "Couldn't ack '2a777627-ca66-48b5-888f-351d32e60311', reason:network:ConnectionError",
        level="CRITICAL",
    ): "Redis killed",
    line(
        "celery.worker", "Unrecoverable error: AttributeError(\"'NoneType' object has no attribute 'x'\")"
    ): ("Redis killed"),
    "[2026-01-01 10:00:00,1: ERROR/ForkPoolWorker-1] Process ForkPoolWorker-1\n"
    "Traceback (most recent call last):\n  File x\nBrokenPipeError: [Errno 32] Broken pipe": (
        "Celery worker killed"
    ),
}


# Other words for the same.
ALSO_EXCUSED = {
    line("celery.bootsteps", "Error on stopping Gossip: AttributeError('x')"): "Redis killed",
    line("celery.worker", "Unrecoverable error: StopIteration()", level="CRITICAL"): "Redis killed",
}


def judged(text: str, *blows: Struck) -> Logbook:
    found = Logbook()
    found.read("a.log", text.splitlines(), blows)
    return found


@pytest.mark.parametrize(("text", "kind"), {**EXCUSED, **ALSO_EXCUSED}.items())
def test_what_a_blow_explains_is_excused_by_that_blow_alone(text: str, kind: str) -> None:
    found = judged(text, Struck(kind, AT, AT + 1))
    assert (found.complaints, found.excused.total()) == ([], 1)
    for blow in ((), (Struck("agent killed", AT, AT + 1),)):
        assert judged(text, *blow).complaints == [f"a.log has: {text}"]


def test_every_excuse_is_needed_by_one_of_these_lines() -> None:
    found = Logbook()
    lines = [part for text in EXCUSED for part in text.splitlines()]
    blows = [Struck(kind, AT, AT + 1) for kind in EXCUSED.values()]
    found.read("a.log", lines, blows)
    found.end("celery-1 ended by itself with exit code 1", AT + 1, blows)
    assert found.excused == dict.fromkeys((excuse.what for excuse in EXCUSES), 1)


@pytest.mark.parametrize("at", [AT - 2, AT + 2 + EXPLAINED_S])
def test_a_blow_explains_nothing_before_it_or_long_afterwards(at: float) -> None:
    assert judged(line(*AWAY, at=at), ENDED).complaints


@pytest.mark.parametrize(
    "text",
    [
        "Traceback (most recent call last):",
        line("retire_cluster.gateway", "a defect"),
        line("retire_cluster.gateway", "a defect", level="CRITICAL"),
        line("api.errors", "database unavailable: database is locked"),
        line("a", "database is locked", level="WARNING"),
        line("api.errors", "database unavailable: deadlock detected"),
        "Exception in thread x:\nTraceback (most recent call last):\n  File x\nBrokenPipeError: y",
    ],
)
def test_a_defect_is_told_whatever_was_hurt(text: str) -> None:
    blows = [Struck(kind, AT, AT + 1) for excuse in EXCUSES for kind in excuse.blows]
    assert judged(text, *blows).complaints == [f"a.log has: {text}"]


@pytest.mark.parametrize(
    "text", [line("a", "fine", level="INFO"), line("a", "odd", level="WARNING"), "an ERROR of somebody else"]
)
def test_other_lines_are_nobody_s_business(text: str) -> None:
    found = judged(text, ENDED)
    assert (found.complaints, found.excused.total()) == ([], 0)


def test_a_deadlock_that_was_dissolved_is_counted() -> None:
    found = judged("2026-01-01 10:00:00 UTC [7] ERROR:  deadlock detected")
    assert (found.complaints, found.deadlocks) == ([], 1)


def test_a_traceback_is_one_with_its_title_and_ends_with_its_exception() -> None:
    text = "Exception in thread x:\nTraceback (most recent call last):\n  File x\nE: y\nfine\nfine"
    assert judged(text).complaints == [f"a.log has: {text[: -len(chr(10) + 'fine') * 2]}"]


def test_a_program_that_ended_by_itself_is_a_defect_unless_a_blow_explains_it() -> None:
    found, blow = Logbook(), Struck("Celery worker's child killed", AT, AT)
    for name in ("gateway-1", "celery-1"):
        found.end(f"{name} ended by itself with exit code 1", AT + 1, [blow])
    found.end("celery-2 ended by itself with exit code 1", AT + 2 * EXPLAINED_S, [blow])
    assert found.complaints == [
        "gateway-1 ended by itself with exit code 1",
        "celery-2 ended by itself with exit code 1",
    ]
