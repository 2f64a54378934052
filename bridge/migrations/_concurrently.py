"""Build and drop indexes beside the traffic.

The time limits of the connection are for statements that others wait for. Nobody waits for these, and on a large table
they take minutes: while the index is built, and then until every transaction that began before has ended.
"""

from django.db.migrations import RunSQL

_WITHOUT_LIMITS = RunSQL("SET lock_timeout = 0; SET statement_timeout = 0", RunSQL.noop)
_WITH_LIMITS = RunSQL("RESET lock_timeout; RESET statement_timeout", RunSQL.noop)


def build(name: str, definition: str, *, unique: bool = False) -> list[RunSQL]:
    """Return the operations that build an index; `definition` is what follows ON. The migration must not be atomic.

    May run again: what an interrupted run left behind is invalid and is dropped first.
    """
    kind = "UNIQUE INDEX" if unique else "INDEX"
    return [
        _WITHOUT_LIMITS,
        RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", RunSQL.noop),
        RunSQL(
            f"CREATE {kind} CONCURRENTLY {name} ON {definition}",
            f"DROP INDEX CONCURRENTLY IF EXISTS {name}",
        ),
        _WITH_LIMITS,
    ]


def drop(name: str, definition: str) -> list[RunSQL]:
    """Return the operations that drop an index, which `definition` would build again. The migration must not be atomic."""
    return [
        _WITHOUT_LIMITS,
        RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", f"CREATE INDEX CONCURRENTLY {name} ON {definition}"),
        _WITH_LIMITS,
    ]
