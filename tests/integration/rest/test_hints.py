"""Hints cross processes at once: on SQLite the file tells that somebody committed, on Postgres a NOTIFY does."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from retire_cluster import hints

pytestmark = pytest.mark.django_db(transaction=True)
DEADLINE_S = 30.0

# Prints each hint it hears; for each line it reads it commits something and tells a hint.
PROGRAM = """
import sys
import django
django.setup()
from django.conf import settings
settings.WATCH_DATABASE = True
settings.DATABASES["default"]["NAME"] = sys.argv[1]
from retire_cluster import db, hints
from tasks.models import Tally
hints.subscribe(lambda hint: print(hint, flush=True))
print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    with db.write_transaction():
        Tally.objects.create(shard=sys.argv[2], name=f"t{number}")
    hints.notify(line.strip())
"""


class Process:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._said: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ready(self) -> None:
        assert self._said.get(timeout=DEADLINE_S) == "ready"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line.strip())

    def end(self) -> None:
        """Kill it, and read to its end: what is closed must not be read any more."""
        self._process.kill()
        self._reader.join(DEADLINE_S)

    def tell(self, hint: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{hint}\n")
        self._process.stdin.flush()

    def heard(self, hint: str, seconds: float) -> bool:
        """Whether it says the hint within the time."""
        try:
            while self._said.get(timeout=seconds) != hint:
                pass
        except queue.Empty:
            return False
        return True


@contextmanager
def process(name: str) -> Iterator[Process]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(connection.settings_dict["NAME"]), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
    ) as started:
        found = Process(started)
        try:
            found.ready()
            yield found
        finally:
            found.end()


def test_what_one_process_tells_the_others_hear() -> None:
    with process("first") as first, process("second") as second, process("third") as third:
        for teller, others in ((first, (second, third)), (second, (first, third))):
            for hint in ("work", "intent"):
                for other in others:
                    # An ear that is still connecting misses a hint: it is told again until all hear.
                    assert any(_told(teller, other, hint) for _ in range(100)), hint


def _told(teller: Process, other: Process, hint: str) -> bool:
    teller.tell(hint)
    return other.heard(hint, 0.3)


@pytest.mark.parametrize(
    ("payload", "told", "named"),
    [
        ("another work,news", ["work", "news"], []),
        (f"another ended,news waiters:{'a' * 32} pings:{'b' * 32}", ["news"], ["a" * 32]),
        ("another ended", ["ended"], []),
        ("another", [], []),
        ("another work waiters:nonsense", [], []),
        ("another unknown", [], []),
    ],
)
def test_a_notification_is_understood_or_ignored(payload: str, told: list[str], named: list[str]) -> None:
    heard: list[str] = []
    ended: list[str] = []
    kept = dict(hints._end_listeners)
    stop = hints.subscribe(heard.append)
    hints.on_ended("waiters", lambda ids: ended.extend(item.hex for item in ids))
    try:
        hints._heard(payload)
    finally:
        stop()
        hints._end_listeners.clear()
        hints._end_listeners.update(kept)
    assert (heard, ended) == (told, named)
