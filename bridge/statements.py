"""The SQL statements of this package. All others are the ORM's."""

from functools import cache

from bridge import sql
from bridge.models import Event
from bridge.sql import Statement

_SET_AND_COMPARED = (
    "The new value depends on the stored one, in one statement: the ORM's upserts cannot read the old row."
)
_MANY_PROBES = (
    "One index probe for each of thousands of ids, whatever number the planner assumes: the ORM has no LATERAL."
)
_APPEND_ONLY = "Retention is the only code that deletes from append-only tables: their models refuse to delete."

# --- the database itself ----------------------------------------------------------------------------------------------

NOW = Statement("The ORM reads tables, and this reads none.", "SELECT clock_timestamp()")

SETTING = Statement("The ORM reads tables, and this reads none.", "SELECT current_setting(%s)")

# --- the event log ----------------------------------------------------------------------------------------------------

ONCE = {"day": "date", "event_id": "text"}

KNOWN_EVENTS = Statement(
    _MANY_PROBES,
    f"""
    SELECT r.day, r.event_id, e.pk, e.body_hash FROM {sql.recordset(ONCE)}
    CROSS JOIN LATERAL (
        SELECT id AS pk, body_hash FROM bridge_event WHERE day = r.day AND event_id = r.event_id OFFSET 0
    ) AS e
    UNION ALL
    SELECT r.day, r.event_id, e.pk, e.body_hash FROM {sql.recordset(ONCE)}
    CROSS JOIN LATERAL (
        SELECT id AS pk, body_hash FROM bridge_event
        WHERE day IS NULL AND source = 'pulsar' AND event_id = r.event_id OFFSET 0
    ) AS e
    WHERE r.day IS NULL
    """,
)

LOCK_IDS = Statement(
    "Advisory locks, in the order given: the ORM locks rows only.",
    f"""
    SELECT pg_advisory_xact_lock(hashtextextended('event ' || r.event_id, 0)) FROM {sql.recordset({"event_id": "text"})}
    """,
)

AROUND_MIDNIGHT = {**ONCE, "other_day": "date", "midnight": "timestamptz"}

# Events with the same id on the other side of midnight.
OTHER_DAY_EVENTS = Statement(
    _MANY_PROBES,
    f"""
    SELECT r.day, r.event_id, e.pk, e.body_hash FROM {sql.recordset(AROUND_MIDNIGHT)}
    CROSS JOIN LATERAL (
        SELECT id AS pk, body_hash, occurred_at FROM bridge_event
        WHERE day = r.other_day AND event_id = r.event_id OFFSET 0
    ) AS e
    WHERE e.occurred_at >= r.midnight - %s::interval AND e.occurred_at < r.midnight + %s::interval
    """,
)


def _by_event_id(matches: str) -> str:
    """Return a query for the pks of events whose id matches, the newest day first, and those without a day."""
    return f"""
        WITH RECURSIVE days (day) AS (
            (SELECT day FROM bridge_event WHERE day IS NOT NULL ORDER BY day DESC LIMIT 1)
            UNION ALL
            SELECT (SELECT e.day FROM bridge_event e WHERE e.day < days.day ORDER BY e.day DESC LIMIT 1)
            FROM days WHERE days.day IS NOT NULL
        )
        (
            SELECT e.id FROM days CROSS JOIN LATERAL (
                SELECT id FROM bridge_event WHERE day = days.day AND {matches} LIMIT %(most)s
            ) AS e
            LIMIT %(most)s
        )
        UNION ALL
        (
            SELECT e.id FROM unnest(%(sources)s::text[]) AS own (source) CROSS JOIN LATERAL (
                SELECT id FROM bridge_event WHERE day IS NULL AND bridge_event.source = own.source AND {matches}
                LIMIT %(most)s
            ) AS e
            LIMIT %(most)s
        )
    """


_THROUGH_THE_DAYS = "One index probe for each day that exists, which one probe finds too: the ORM has no recursion."

EVENTS_OF_IDS = Statement(_THROUGH_THE_DAYS, _by_event_id("event_id = ANY(%(ids)s)"))

EVENTS_OF_PREFIX = Statement(_THROUGH_THE_DAYS, _by_event_id("event_id >= %(first)s AND event_id <= %(last)s"))

_EVENT_FIELDS = (
    "source",
    "event_id",
    "stream",
    "type",
    "key",
    "entity",
    "correlation_id",
    "occurred_at",
    "day",
    "received_at",
    "topic",
    "message_id",
    "producer",
    "note",
    "payload",
    "body_hash",
    "unclear",
)


@cache
def event_columns() -> dict[str, str]:
    """Return the columns of INSERT_EVENTS."""
    return {**sql.columns_of(Event, *_EVENT_FIELDS), "routing_key": "text", "lane": "text"}


def _insert_events() -> str:
    names = sql.names(sql.columns_of(Event, *_EVENT_FIELDS))
    return f"""
        WITH r AS MATERIALIZED (
            SELECT r.* FROM {sql.recordset(event_columns())}
        ), event AS (
            INSERT INTO bridge_event ({names})
            SELECT {names} FROM r
            ON CONFLICT DO NOTHING
            RETURNING id, source, day, event_id
        ), pending AS (
            INSERT INTO bridge_pending (id, key, lane)
            SELECT event.id, r.routing_key, r.lane
            FROM event JOIN r ON r.source = event.source AND r.event_id = event.event_id
                AND r.day IS NOT DISTINCT FROM event.day
        )
        SELECT day, event_id, id FROM event ORDER BY id
    """


INSERT_EVENTS = Statement(
    "Two tables in one statement, and only rows that are new: half the cost of two.", _insert_events
)

# --- events that several saga types read -----------------------------------------------------------------------------

READING = {
    "event": "bigint",
    "own": "boolean",
    "stream": "text",
    "key": "text",
    "entity": "text",
    "routing_key": "text",
}

# The ids of events and of readings are from one sequence: the queue goes by their order.
INSERT_READINGS = Statement(
    "Two tables in one statement, with ids from the sequence of a third: the ORM inserts into one.",
    f"""
    WITH r AS MATERIALIZED (
        SELECT CASE WHEN r.own THEN r.event ELSE nextval(pg_get_serial_sequence('bridge_event', 'id')) END AS id, r.*
        FROM {sql.recordset(READING)}
    ), reading AS (
        INSERT INTO bridge_event_reading (id, event, stream, key, entity)
        SELECT id, event, stream, key, entity FROM r
    )
    INSERT INTO bridge_pending (id, key) SELECT id, routing_key FROM r WHERE NOT own
    """,
)

# --- events that are only counted -------------------------------------------------------------------------------------

GROUP = {"stream": "text", "key": "text", "entity": "text", "type": "text"}

# The update changes nothing: it locks the row.
LOCK_COUNTED = Statement(
    "Inserts and locks in one statement, in the order of the rows given: the ORM's upserts lock no row.",
    f"""
    INSERT INTO bridge_collapsed_events AS old (stream, key, entity, type, stored, counted, recent)
    SELECT r.stream, r.key, r.entity, r.type, 0, 0, '{{}}' FROM {sql.recordset(GROUP)}
    ON CONFLICT (stream, key, entity, type) DO UPDATE SET stored = old.stored
    """,
)

LAST_COUNTED = Statement(
    "Compares four columns with a page of rows: the ORM compares one.",
    f"""
    SELECT r.stream, r.key, r.entity, r.type, c.last_at FROM {sql.recordset(GROUP)}
    JOIN bridge_collapsed_events c
        ON c.stream = r.stream AND c.key = r.key AND c.entity = r.entity AND c.type = r.type
    WHERE c.last_at IS NOT NULL
    """,
)

# --- heartbeats and the state of topics -------------------------------------------------------------------------------

# statement_timestamp(), not now(): a beat inside a transaction must not have the start time of that transaction.
BEAT = Statement(
    _SET_AND_COMPARED,
    """
    INSERT INTO bridge_heartbeat AS old
        (name, kind, started_at, beat_at, connected, well_since, last_message_at, detail)
    VALUES (
        %(name)s, %(kind)s, statement_timestamp(), statement_timestamp(), %(connected)s,
        CASE WHEN %(well)s THEN statement_timestamp() END,
        statement_timestamp() - %(last_message_age)s::interval,
        %(detail)s::jsonb
    )
    ON CONFLICT (name) DO UPDATE SET
        kind = excluded.kind,
        started_at = CASE
            WHEN old.beat_at > excluded.beat_at - %(fresh)s::interval THEN old.started_at
            ELSE excluded.started_at
        END,
        beat_at = excluded.beat_at,
        connected = excluded.connected,
        well_since = CASE
            WHEN excluded.well_since IS NOT NULL AND old.beat_at > excluded.beat_at - %(fresh)s::interval
            THEN coalesce(old.well_since, excluded.well_since)
            ELSE excluded.well_since
        END,
        last_message_at = coalesce(excluded.last_message_at, old.last_message_at),
        detail = excluded.detail
    """,
)

BACKLOG = {"topic": "text", "undelivered": "integer", "stalled": "boolean"}

NOTE_BACKLOG = Statement(
    _SET_AND_COMPARED,
    f"""
    INSERT INTO bridge_topic_backlog AS old (topic, undelivered, stalled, since, seen_at)
    SELECT r.topic, r.undelivered, r.stalled, statement_timestamp(), statement_timestamp()
    FROM {sql.recordset(BACKLOG)} ORDER BY r.topic
    ON CONFLICT (topic) DO UPDATE SET
        undelivered = excluded.undelivered,
        stalled = excluded.stalled,
        since = CASE
            WHEN old.ended_at IS NULL AND old.seen_at > excluded.seen_at - %s::interval THEN old.since
            ELSE excluded.since
        END,
        seen_at = excluded.seen_at,
        ended_at = NULL
    """,
)

BLOCKED = {"topic": "text", "reason": "text"}

NOTE_BLOCKED = Statement(
    _SET_AND_COMPARED,
    f"""
    INSERT INTO bridge_blocked_topic AS old (topic, since, last_at, reason)
    SELECT r.topic, %s, %s, r.reason FROM {sql.recordset(BLOCKED)} ORDER BY r.topic
    ON CONFLICT (topic) DO UPDATE SET
        since = CASE WHEN old.last_at > %s THEN old.since ELSE excluded.since END,
        last_at = excluded.last_at,
        reason = excluded.reason
    """,
)

# --- quarantine -------------------------------------------------------------------------------------------------------

HOUR = {"topic": "text", "hour": "timestamptz"}

# The update changes nothing: it locks the row, so that it returns what the last writer committed.
LOCK_COUNTS = Statement(
    "Inserts, locks and reads in one statement: the ORM's upserts return no stored values.",
    f"""
    INSERT INTO bridge_quarantine_count AS old (topic, hour, kept, counted, last_code, last_reason)
    SELECT r.topic, r.hour, 0, 0, '', '' FROM {sql.recordset(HOUR)}
    ON CONFLICT (topic, hour) DO UPDATE SET kept = old.kept
    RETURNING topic, hour, kept
    """,
)

PLACE = {"topic": "text", "message_id": "text", "body_hash": "bytea"}

KEPT_ALREADY = Statement(
    "Compares three columns with thousands of rows: the ORM compares one.",
    f"""
    SELECT q.topic, q.message_id, q.body_hash FROM {sql.recordset(PLACE)}
    JOIN bridge_quarantined q
        ON q.topic = r.topic AND q.message_id = r.message_id AND q.body_hash = r.body_hash
    """,
)

# --- retention --------------------------------------------------------------------------------------------------------

ALLOW_DELETING = Statement(
    "Reads and sets a variable of the transaction; the ORM reads and writes tables only.",
    "SELECT coalesce(current_setting('bridge.retention', true), ''), set_config('bridge.retention', 'on', true)",
)

END_DELETING = Statement(
    "Sets a variable of the transaction; the ORM writes tables only.",
    "SELECT set_config('bridge.retention', %s, true)",
)

DELETE_DUPLICATES = Statement(_APPEND_ONLY, "DELETE FROM bridge_duplicate WHERE event = ANY(%s)")

# Counted events belong to stored ones of the same type, key and entity, and are deleted with them.
DELETE_COUNTED = Statement(
    "Compares four columns with those of the deleted events: the ORM compares one.",
    """
    DELETE FROM bridge_collapsed_events c USING (
        SELECT stream, key, entity, type FROM bridge_event WHERE id = ANY(%(ids)s)
        UNION
        SELECT r.stream, r.key, r.entity, e.type FROM bridge_event_reading r JOIN bridge_event e ON e.id = r.event
        WHERE r.id = ANY(%(ids)s)
    ) AS e
    WHERE c.stream = e.stream AND c.key = e.key AND c.entity = e.entity AND c.type = e.type
    """,
)

DELETE_READINGS = Statement(_APPEND_ONLY, "DELETE FROM bridge_event_reading WHERE id = ANY(%s) RETURNING event")

# Two transactions that delete the last two readings of an event must not both leave the event to the other.
LOCK_EVENTS = Statement(
    "Locks in the order of the ids and reads nothing, which the ORM does not say.",
    "SELECT FROM bridge_event WHERE id = ANY(%s) ORDER BY id FOR UPDATE",
)

UNREAD_EVENTS = Statement(
    "Compares an array with a table that has none of it; the ORM would send each id as a parameter.",
    """
    SELECT w.id FROM unnest(%s::bigint[]) AS w(id)
    WHERE NOT EXISTS (SELECT FROM bridge_event_reading WHERE event = w.id OFFSET 0)
    """,
)

# The key of a pruned event: see PrunedEvent.
PRUNED_ID = (
    "coalesce(lpad(to_hex({0}.day - date '1970-01-01'), 8, '0'), left(md5({0}.event_id), 8))"
    " || substr(md5({0}.event_id), 9)"
)

# Deletes events, keeps their keys, and returns how many they were and when the last one from Pulsar occurred.
DELETE_EVENTS = Statement(
    _APPEND_ONLY,
    f"""
    WITH gone AS (
        DELETE FROM bridge_event WHERE id = ANY(%(events)s) RETURNING source, day, event_id, body_hash, occurred_at
    ), kept AS (
        INSERT INTO bridge_pruned_event (id, body_hash, pruned_at)
        SELECT ({PRUNED_ID.format("gone")})::uuid, body_hash, %(now)s FROM gone WHERE source = 'pulsar' ORDER BY 1
        ON CONFLICT (id) DO NOTHING
    )
    SELECT count(*), max(occurred_at) FILTER (WHERE source = 'pulsar') FROM gone
    """,
)

REMEMBERED = Statement(
    _MANY_PROBES,
    f"""
    SELECT r.day, r.event_id, p.body_hash FROM {sql.recordset(ONCE)}
    CROSS JOIN LATERAL (
        -- The whole md5 is the key in rows of earlier releases.
        SELECT body_hash FROM bridge_pruned_event
        WHERE id = ANY(ARRAY[({PRUNED_ID.format("r")})::uuid, md5(r.event_id)::uuid])
        ORDER BY id = md5(r.event_id)::uuid LIMIT 1
    ) AS p
    WHERE EXISTS (SELECT FROM bridge_pruned_event)
    """,
)

# A message is received before it is decided on: the condition on received_at lets the query use the index.
DELETE_MESSAGES = Statement(
    _APPEND_ONLY,
    """
    DELETE FROM bridge_quarantined WHERE id IN (
        SELECT id FROM bridge_quarantined
        WHERE status IN ('requeued', 'dismissed') AND received_at < %(before)s AND decided_at < %(before)s
        LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    """,
)
