"""Counters in the database, for all processes and hosts together."""

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
# Rows that others hold are left to them, so that two of these cannot wait for each other.
_FORGET = """
    DELETE FROM sagaproject_request_count WHERE key IN (
        SELECT key FROM sagaproject_request_count WHERE ends_at < statement_timestamp() - interval '1 hour'
        ORDER BY ends_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
"""


def add(key: str, amount: int, seconds: float) -> tuple[int, float]:
    """Add to a counter: (what it stands at, seconds until it begins anew).

    A window of `seconds` begins with the first addition after the last one ended. One statement, so that no addition is
    lost; a new key also removes counters that ended long ago. Each call counts. Opens no transaction. Raises
    DatabaseError or InterfaceError where the database is away or takes no changes.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ADD, {"key": key, "amount": amount, "seconds": seconds})
        count, left, is_new = cursor.fetchone()
        if is_new:
            cursor.execute(_FORGET)
    return int(count), float(left)
