"""Counters in the database, shared by all processes and hosts."""

from __future__ import annotations

from django.db import connection

_ADD = """
    INSERT INTO sagaproject_request_count AS known (key, count, ends_at)
    VALUES (%(key)s, %(amount)s, statement_timestamp() + make_interval(secs => %(seconds)s))
    ON CONFLICT (key) DO UPDATE SET
        count = CASE WHEN known.ends_at > statement_timestamp() THEN known.count ELSE 0 END + excluded.count,
        ends_at = CASE WHEN known.ends_at > statement_timestamp() THEN known.ends_at ELSE excluded.ends_at END
    RETURNING count, extract(epoch FROM ends_at - statement_timestamp()), xmax = 0
"""
# Locked rows are skipped, so that two of these statements cannot wait for each other.
_FORGET = """
    DELETE FROM sagaproject_request_count WHERE key IN (
        SELECT key FROM sagaproject_request_count WHERE ends_at < statement_timestamp() - interval '1 hour'
        ORDER BY ends_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
"""


def add(key: str, amount: int, seconds: float) -> tuple[int, float]:
    """Add to a counter; return its value and the seconds until it starts again at 0.

    A window of `seconds` begins with the first addition after the previous window ended. One statement, so that no
    addition is lost; a new key also deletes counters that ended long ago. Each call counts. Opens no transaction.
    Raises DatabaseError or InterfaceError if the database is unavailable or read-only.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ADD, {"key": key, "amount": amount, "seconds": seconds})
        count, left, is_new = cursor.fetchone()
        if is_new:
            cursor.execute(_FORGET)
    return int(count), float(left)
