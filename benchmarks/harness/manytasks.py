"""A table of many tasks as weeks of work leave it, written by the database itself. One tick apart, newest first."""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

TICK = timedelta(milliseconds=500)
_TYPES = ("echo", "command", "http_request", "python_eval")
_PROFILES = [(number + 1, f"{number:064d}", task_type) for number, task_type in enumerate(_TYPES)]

# n counts from 0, the newest. Of a hundred 92 succeeded, 5 failed, 2 were cancelled, and one waits.
_CASES = """
    SELECT n,
           CASE WHEN n % 100 < 92 THEN 'success' WHEN n % 100 < 97 THEN 'failed' WHEN n % 100 < 99 THEN 'cancelled'
                ELSE 'queued' END AS status,
           CASE (n / 7) % 4 WHEN 0 THEN 'echo' WHEN 1 THEN 'command' WHEN 2 THEN 'http_request'
                ELSE 'python_eval' END AS task_type,
           (n / 7) % 4 + 1 AS profile_id,
           CASE (n / 3) % 17 % 4 WHEN 0 THEN 'normal' WHEN 1 THEN 'high' WHEN 2 THEN 'low'
                ELSE 'urgent' END AS priority
    FROM numbers
"""
_COLUMNS = """
    (id, task_type, priority, payload, requirements, metadata, profile_id, timeout_s, max_retries, on_device_loss,
     submitted_by, created_at, status, round, attempt_no, rank, ready_at, cancel_requested_by, failures, losses,
     avoid_device, device_id, assigned_at, started_at, finished_at, progress_message, execution_s, version)
"""
_SELECT = """
    SELECT {id}, task_type, priority, {payload}, '{{}}', '{{}}', profile_id, 300, 1, 'requeue',
           'key:benchmark', {at0}, status, 1, CASE status WHEN 'queued' THEN 0 ELSE 1 END, {rank}, {at0}, '',
           CASE status WHEN 'failed' THEN 2 ELSE 0 END, 0, '',
           CASE status WHEN 'queued' THEN '' ELSE {device} END,
           CASE status WHEN 'queued' THEN NULL ELSE {at1} END, CASE status WHEN 'queued' THEN NULL ELSE {at1} END,
           CASE status WHEN 'queued' THEN NULL ELSE {at2} END, '',
           CASE status WHEN 'queued' THEN NULL ELSE 2.5 END, 1
    FROM cases
"""


@dataclass(frozen=True, slots=True)
class Filled:
    """What was written: `count` tasks, the newest at `newest`."""

    count: int
    newest: datetime

    def before(self, number: int) -> str:
        """A moment after the tasks up to this number and not before the next, for a query string."""
        moment = self.newest - number * TICK + TICK / 2
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def fill_postgres(url: str, count: int) -> Filled:
    """Through PostgreSQL's own generator; vacuumed, as autovacuum would within a minute."""
    newest = _now()
    select = _SELECT.format(
        id="(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' "
        "|| lpad(to_hex(2147483647 - n), 12, '0'))::uuid",
        payload="""'{"number": ' || n || ', "message": "' || repeat('-', 100) || '"}'""",
        rank="(extract(epoch FROM at) * 1000000)::bigint",
        device="'device-' || lpad((n % 200)::text, 3, '0')",
        at0="at",
        at1="at + interval '1 second'",
        at2="at + interval '4 seconds'",
    )
    numbers = f"SELECT generate_series(0, {count - 1}) AS n"
    at = f"'{newest.isoformat()}'::timestamptz - n * interval '{TICK.total_seconds()} seconds'"
    cases = f"SELECT *, {at} AS at FROM ({_CASES}) AS each_one"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.cursor().executemany(
            "INSERT INTO tasks_profile (id, digest, task_type, requirements, last_used_at) "
            "VALUES (%s, %s, %s, '{}', now())",
            _PROFILES,
        )
        connection.execute("SELECT setval(pg_get_serial_sequence('tasks_profile', 'id'), 100)")
        connection.execute(
            f"WITH numbers AS ({numbers}), cases AS ({cases}) INSERT INTO tasks_task {_COLUMNS} {select}"
        )
        connection.execute("VACUUM ANALYZE")
    return Filled(count, newest)


def fill_sqlite(path: Path, count: int) -> Filled:
    """The same rows. The server may run: it waits for its turn to write."""
    newest = _now()
    epoch_ms = int(newest.timestamp() * 1000)
    tick_ms = TICK // timedelta(milliseconds=1)

    def at(more_s: int) -> str:
        seconds = f"({epoch_ms} - n * {tick_ms}) / 1000.0 + {more_s}"
        return f"strftime('%Y-%m-%d %H:%M:%f', {seconds}, 'unixepoch')"

    select = _SELECT.format(
        id=f"printf('%012x70008000%012x', {epoch_ms} - n * {tick_ms}, 2147483647 - n)",
        payload="""printf('{"number": %d, "message": "%s"}', n, replace(printf('%100s', ''), ' ', '-'))""",
        rank=f"({epoch_ms} - n * {tick_ms}) * 1000",
        device="printf('device-%03d', n % 200)",
        at0=at(0),
        at1=at(1),
        at2=at(4),
    )
    numbers = f"SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count - 1}"
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO tasks_profile (id, digest, task_type, requirements, last_used_at) "
        "VALUES (?, ?, ?, '{}', datetime())",
        _PROFILES,
    )
    connection.execute(
        f"WITH RECURSIVE numbers(n) AS ({numbers}), cases AS ({_CASES}) INSERT INTO tasks_task {_COLUMNS} {select}"
    )
    connection.execute("COMMIT")
    connection.close()
    return Filled(count, newest)


def _now() -> datetime:
    """To the second: both databases then write the same moments."""
    return datetime.now(UTC).replace(microsecond=0)
