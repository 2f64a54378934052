"""Counters in the database, shared by all processes and hosts."""

from __future__ import annotations

from sagaproject import statements


def add(key: str, amount: int, seconds: float) -> tuple[int, float]:
    """Add to a counter; return its value and the seconds until it starts again at 0.

    A window of `seconds` begins with the first addition after the previous window ended. One statement, so that no
    addition is lost; a new key also deletes counters that ended long ago. Each call counts. Opens no transaction.
    Raises DatabaseError or InterfaceError if the database is unavailable or read-only.
    """
    count, left, is_new = statements.ADD_REQUESTS.row({"key": key, "amount": amount, "seconds": seconds})
    if is_new:
        statements.FORGET_REQUESTS.run()
    return int(count), float(left)
