"""How many statements a PostgreSQL is sent: its own log of them, switched on for as long as it is looked at."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*)")
_OWN = re.compile(r"ALTER SYSTEM|SELECT pg_reload_conf")
SETTLED_S = 0.3  # until every session has read its settings again


class Statements:
    """What was sent, transaction control included. Complete when the block is over."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.seconds = 0.0

    @property
    def a_second(self) -> float:
        return len(self.texts) / self.seconds


@contextmanager
def counted(url: str, log: Path) -> Iterator[Statements]:
    """Count while the block runs. `log` is the server's; the account must be a superuser's."""
    found = Statements()
    with psycopg.connect(url, autocommit=True) as own:
        _switch(own, "all")
        start, began = log.stat().st_size, time.monotonic()
        yield found
        found.seconds = time.monotonic() - began
        _switch(own, "none")
    with log.open(errors="replace") as lines:
        lines.seek(start)
        found.texts = [match[1] for line in lines if (match := _STATEMENT.search(line))]
    found.texts = [text for text in found.texts if not _OWN.match(text)]


def _switch(own: "psycopg.Connection[tuple[object, ...]]", which: str) -> None:
    own.execute(f"ALTER SYSTEM SET log_statement = '{which}'".encode())
    own.execute("SELECT pg_reload_conf()")
    time.sleep(SETTLED_S)
