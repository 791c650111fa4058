"""Sequence numbers on Postgres, where ids come from a counter and not in the order of commits.

A reader that followed ids would miss rows that are committed late: one in eight with eight writers. So rows are
numbered after their commit, by whichever process follows them, one at a time.
"""

from django.db import connection, transaction

from retire_cluster import db

LOCK = 0x7263_6576  # "rcev": an advisory lock of the database, held by whoever numbers
MOST = 5000  # rows in one go

_NUMBER = """
    UPDATE events_eventbatch SET seq_from = last.next + waiting.before
    FROM (
        SELECT id, sum(count) OVER (ORDER BY id) - count AS before
        FROM events_eventbatch WHERE seq_from IS NULL ORDER BY id LIMIT %s
    ) waiting, (
        SELECT COALESCE((
            SELECT seq_from + count FROM events_eventbatch
            WHERE seq_from IS NOT NULL ORDER BY seq_from DESC LIMIT 1
        ), 1) AS next
    ) last
    WHERE events_eventbatch.id = waiting.id
"""


def number() -> int:
    """Number the rows that were committed since the last time; returns how many. Another process may be at it: 0.

    Two statements, so that the second one sees what was committed until the lock was ours.
    """
    if db.is_sqlite():
        return 0
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        row = cursor.fetchone()
        if row is None or not row[0]:
            return 0
        cursor.execute(_NUMBER, [MOST])
        return int(cursor.rowcount)
