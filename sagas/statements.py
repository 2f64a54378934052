"""The SQL statements of this package, but for those of the apply path (`sagas.applying.statements`)."""

from itertools import pairwise

from bridge.sql import Statement, columns_of, names, recordset
from sagas.models import JobItem, SagaStatusChoice

_MANY_PROBES = "One index probe for each of any number of rows, whatever the planner assumes: the ORM has no LATERAL."

# --- transactions of decisions ----------------------------------------------------------------------------------------

LIMIT_LOCK_WAIT = Statement(
    "Sets a variable of the transaction; the ORM writes tables only.",
    "SELECT set_config('lock_timeout', %s, true)",
)

# --- entities of several sagas ----------------------------------------------------------------------------------------

# Whether one of the lane's commands was neither sent nor marked as done by a person.
_NOT_UNDONE_BY_US = """EXISTS (
    SELECT 1 FROM compensation_command c WHERE c.saga_id = l.saga_id AND c.entity = l.entity AND NOT c.by_hand
    AND NOT EXISTS (
        SELECT 1 FROM compensation_attempt a
        WHERE a.command_id = c.id AND a.outcome NOT IN ('failed', 'unreachable', 'blocked')
    )
)"""

# LATERAL … OFFSET 0 forces the order: lanes by their entity, then each lane's saga by its id, whatever the statistics.
_WANTED = "unnest(%s::text[], %s::uuid[], %s::text[], %s::text[]) AS w(id, saga_id, stream, entity)"
_OF_ONE = f"""
    SELECT l.saga_id FROM (
        SELECT saga_id, entity, outcome FROM sagas_lane
        WHERE entity = w.entity AND known AND saga_id <> w.saga_id OFFSET 0
    ) AS l
    CROSS JOIN LATERAL (SELECT saga_type FROM sagas_saga WHERE id = l.saga_id OFFSET 0) AS s
    WHERE s.saga_type = w.stream AND (l.outcome <> 'undone' OR {_NOT_UNDONE_BY_US})
"""

OTHER_SAGA = Statement(
    _MANY_PROBES,
    f"SELECT w.id, o.saga_id::text FROM {_WANTED} CROSS JOIN LATERAL ({_OF_ONE} ORDER BY l.saga_id LIMIT 1) AS o",
)

OTHER_SAGAS = Statement(
    _MANY_PROBES,
    f"SELECT DISTINCT o.saga_id, w.entity FROM {_WANTED} CROSS JOIN LATERAL ({_OF_ONE}) AS o",
)

KNOWING_HELD = Statement(
    _MANY_PROBES,
    """
    SELECT DISTINCT w.saga_id FROM unnest(%s::uuid[]) AS w(saga_id)
    CROSS JOIN LATERAL (SELECT saga_type FROM sagas_saga WHERE id = w.saga_id OFFSET 0) AS s
    CROSS JOIN LATERAL (SELECT entity FROM sagas_lane WHERE saga_id = w.saga_id AND known OFFSET 0) AS l
    CROSS JOIN LATERAL (
        SELECT 1 FROM compensation_command
        WHERE entity = l.entity AND stream = s.saga_type AND status = 'planned' AND held_since IS NOT NULL
            AND saga_id <> w.saga_id LIMIT 1
    ) AS c
    """,
)

# --- pages ------------------------------------------------------------------------------------------------------------

_COUNT = "(SELECT count(*) FROM (SELECT 1 FROM sagas_saga WHERE status = '{status}' LIMIT %(limit)s) AS counted)"

STATUS_COUNTS = Statement(
    "Counts up to a limit, once for each status, in one query: the ORM needs one for each.",
    f"SELECT {', '.join(_COUNT.format(status=status) for status in SagaStatusChoice.values)}",
)

TIMELINE_PAGE = Statement(
    "A page of a union and its size in one query; the ORM adds no window function to a union.",
    """
    SELECT lines.*, count(*) OVER () FROM ({query}) AS lines
    ORDER BY line_at, line_rank, line_number, line_ref LIMIT %s OFFSET %s
    """,
)

PARKED_GROUPS_PAGE = Statement(
    "A page of groups and their number in one query: the ORM would group all unmatched events twice.",
    """
    SELECT stream, key, alone, count(*) OVER () FROM ({query}) AS groups
    ORDER BY first_at, stream, key, alone LIMIT %s OFFSET %s
    """,
)

STEP_PATTERNS = Statement(
    "Groups lanes by all of their steps: the ORM aggregates no arrays of arrays and no groups of groups.",
    """
    WITH lane AS MATERIALIZED (
        SELECT l.entity,
               coalesce(
                   (array_agg(s.occurred_at ORDER BY array_position(%(order)s::text[], s.event_type) DESC
                       NULLS LAST, s.occurred_at DESC) FILTER (WHERE s.id IS NOT NULL))[1],
                   l.opened_at
               ) AS since,
               array_agg(ARRAY[s.step_type, s.service, s.rank::text, s.event_type]
                   ORDER BY s.step_type, s.service) FILTER (WHERE s.id IS NOT NULL) AS steps
        FROM sagas_lane l LEFT JOIN sagas_step s ON s.saga_id = l.saga_id AND s.entity = l.entity
        WHERE l.saga_id = %(saga)s AND l.known AND l.outcome = 'open'
        GROUP BY l.id, l.entity, l.opened_at
    )
    SELECT count(*), (array_agg(entity ORDER BY since, entity))[1], min(since), steps
    FROM lane GROUP BY steps
    UNION ALL
    SELECT 0, '', NULL, array_agg(ARRAY[step_type, service, rank::text, event_type])
    FROM sagas_step WHERE saga_id = %(saga)s AND entity = %(key)s
    """,
)

# --- incidents --------------------------------------------------------------------------------------------------------

# The trend of an incident: so many parts of so many minutes, the last of which ends now.
TREND_PARTS, TREND_MINUTES = 12, 5

_FINGERPRINT = "sagas_failure_fingerprint(service, name, exhausted_by, last_error, last_error_data)"
_FAILED = "compensation_command WHERE status = 'exhausted'"
_PARTS = ", ".join(
    f"count(*) FILTER (WHERE settled_at >= {begins} AND settled_at < {ends})"
    for begins, ends in pairwise(
        f"%(now)s::timestamptz - interval '{part * TREND_MINUTES} minutes'" for part in range(TREND_PARTS, -1, -1)
    )
)
# Grouping by the function would compute it for every row: this only compares what the index holds. Of a row of an
# earlier release, whose last error is a text, no code is returned: it may hold the text of a service.
FAILURES = Statement(
    "Jumps from one fingerprint to the next in an index: the ORM's GROUP BY computes it for every failed command.",
    f"""
    WITH RECURSIVE kinds AS (
        (SELECT {_FINGERPRINT} AS value FROM {_FAILED} ORDER BY {_FINGERPRINT} LIMIT 1)
        UNION ALL
        SELECT next.value FROM kinds CROSS JOIN LATERAL (
            SELECT {_FINGERPRINT} AS value FROM {_FAILED} AND {_FINGERPRINT} > kinds.value
            ORDER BY {_FINGERPRINT} LIMIT 1
        ) AS next
    )
    SELECT kinds.value, newest.service, newest.name, newest.exhausted_by,
           coalesce(newest.last_error_data #>> '{{last,code}}', substring(newest.last_error FROM '^[a-z-]+$'), ''),
           newest.id, counted.*
    FROM (SELECT value FROM kinds LIMIT %(most)s) AS kinds
    CROSS JOIN LATERAL (
        SELECT id, service, name, exhausted_by, last_error, last_error_data FROM {_FAILED}
        AND {_FINGERPRINT} = kinds.value ORDER BY settled_at DESC LIMIT 1
    ) AS newest
    CROSS JOIN LATERAL (
        SELECT count(*), count(DISTINCT saga_id), min(settled_at), max(settled_at), {_PARTS} FROM {_FAILED}
        AND {_FINGERPRINT} = kinds.value
    ) AS counted
    """,
)

# A binary search for each minute: events have no index on their time, and their ids rise with it.
EVENTS_BY_MINUTE = Statement(
    "Searches the ids at which minutes begin, all in one statement: the ORM has no recursion.",
    """
    WITH RECURSIVE search AS (
        SELECT minute, span.low, span.high FROM
            (SELECT min(id) AS low, max(id) + 1 AS high FROM bridge_event) AS span,
            generate_series(%(since)s::timestamptz, %(until)s, interval '1 minute') AS minute
        WHERE span.low IS NOT NULL
        UNION ALL
        SELECT minute, CASE WHEN event.received_at < minute THEN event.id + 1 ELSE low END,
               CASE WHEN event.received_at < minute THEN high ELSE (low + high) / 2 END
        FROM search CROSS JOIN LATERAL (
            SELECT id, received_at FROM bridge_event WHERE id >= (low + high) / 2 ORDER BY id LIMIT 1
        ) AS event
        WHERE low < high
    )
    SELECT minute, coalesce(lead(low) OVER (ORDER BY minute), low) - low FROM search WHERE low >= high ORDER BY minute
    """,
)

# --- retention --------------------------------------------------------------------------------------------------------

WANTED_KEYS = Statement(
    "Compares two columns with any number of pairs: the ORM compares one.",
    """
    SELECT w.stream, w.key FROM unnest(%s::text[], %s::text[]) AS w(stream, key)
    WHERE EXISTS (
        SELECT 1 FROM sagas_parked p
        WHERE p.stream = w.stream AND p.key = w.key AND p.dismissed_at IS NULL OFFSET 0
    )
    """,
)

DELETE_PARKED = Statement(
    "Compares two columns with any number of pairs: the ORM compares one.",
    """
    DELETE FROM sagas_parked WHERE event IN (
        SELECT p.event FROM unnest(%s::text[], %s::text[]) AS w(stream, key)
        JOIN sagas_parked p ON p.stream = w.stream AND p.key = w.key
        LEFT JOIN bridge_event_reading r ON r.id = p.event
        JOIN bridge_event e ON e.id = COALESCE(r.event, p.event)
        WHERE p.dismissed_at < %s AND e.occurred_at < %s
    ) RETURNING event
    """,
)

# The foreign keys are checked at the end of the transaction.
DELETE_SAGAS = Statement(
    "History is append-only, and its model refuses to delete; of the other rows the ORM would read each first.",
    """
    WITH step AS (DELETE FROM sagas_step WHERE saga_id = ANY(%(ids)s)),
    lane AS (DELETE FROM sagas_lane WHERE saga_id = ANY(%(ids)s)),
    saga_key AS (DELETE FROM sagas_saga_key WHERE saga_id = ANY(%(ids)s)),
    attachment AS (DELETE FROM sagas_attachment WHERE saga_id = ANY(%(ids)s)),
    saga AS (DELETE FROM sagas_saga WHERE id = ANY(%(ids)s))
    DELETE FROM sagas_saga_event WHERE saga_id = ANY(%(ids)s) RETURNING event
    """,
)

# --- jobs -------------------------------------------------------------------------------------------------------------


def job_item_columns() -> dict[str, str]:
    """Return the columns that differ between the items of a new job."""
    return columns_of(JobItem, "number", "target", "values")


INSERT_JOB_ITEMS = Statement(
    "A hundred thousand rows in one statement: the ORM sends each value as a parameter.",
    lambda: (
        f"INSERT INTO sagas_job_item (job_id, {names(job_item_columns())}, status, tries, in_canary, commands)"
        f" SELECT %s, {names(job_item_columns(), 'r')}, 'unchecked', 0, false, '{{}}'"
        f" FROM {recordset(job_item_columns())}"
    ),
)

JOB_COMMANDS = Statement(
    "Counts commands by the ids in arrays of other rows: the ORM joins no arrays.",
    """
    SELECT c.status, count(*) FROM (
        SELECT unnest(commands) AS id FROM sagas_job_item WHERE job_id = %s AND status = 'done' LIMIT %s OFFSET 0
    ) AS of_job
    CROSS JOIN LATERAL (SELECT status FROM compensation_command WHERE id = of_job.id OFFSET 0) AS c
    GROUP BY c.status
    """,
)
