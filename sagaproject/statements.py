"""The SQL statements of this package. All others are the ORM's."""

from bridge.sql import Statement

_NO_TABLE = "The ORM reads tables, and this reads none."

SERVER_VERSION = Statement(_NO_TABLE, "SHOW server_version")

READ_ONLY = Statement(_NO_TABLE, "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'")

TRY_TO_WRITE = Statement(
    "Runs on the connection that is checked, not on that of the ORM.",
    """
    INSERT INTO bridge_heartbeat (name, kind, started_at, beat_at, connected, detail)
    VALUES ('doctor:' || pg_backend_pid(), 'doctor', now(), now(), false, '{}')
    """,
)

ADD_REQUESTS = Statement(
    "The new value depends on the stored one, and the ORM's upserts cannot read the stored row.",
    """
    INSERT INTO sagaproject_request_count AS known (key, count, ends_at)
    VALUES (%(key)s, %(amount)s, statement_timestamp() + make_interval(secs => %(seconds)s))
    ON CONFLICT (key) DO UPDATE SET
        count = CASE WHEN known.ends_at > statement_timestamp() THEN known.count ELSE 0 END + excluded.count,
        ends_at = CASE WHEN known.ends_at > statement_timestamp() THEN known.ends_at ELSE excluded.ends_at END
    RETURNING count, extract(epoch FROM ends_at - statement_timestamp()), xmax = 0
    """,
)

# Locked rows are skipped, so that two of these statements cannot wait for each other.
FORGET_REQUESTS = Statement(
    "Locks and deletes rows outside of a transaction: the ORM locks none there.",
    """
    DELETE FROM sagaproject_request_count WHERE key IN (
        SELECT key FROM sagaproject_request_count WHERE ends_at < statement_timestamp() - interval '1 hour'
        ORDER BY ends_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
    """,
)
