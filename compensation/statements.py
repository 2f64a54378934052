"""The SQL statements of this package; most read and write snapshots as rows, thousands of commands at once.

Two rules prevent deadlocks: whoever waits for row locks takes them in the order of the ids (`lock`), and publishers and
sweepers do not wait while they hold one (`lock_available`, and every SKIP LOCKED here). Locks are NO KEY, because
nothing here changes a key, so the foreign key checks of new attempts do not wait for them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, TypedDict

import orjson

from bridge import sql
from bridge.sql import Statement
from compensation.models import OPEN, Attempt, Command
from compensation.retry import RetryPolicy
from compensation.snapshot import CommandSnapshot

_FIXED = ("stream", "key", "routing_key", "entity", "name", "service", "confirmation", "invalid")
_POLICY = ("initial_interval", "backoff_coefficient", "maximum_interval", "maximum_attempts", "jitter")
_MOVING = (
    "status",
    "round",
    "attempt",
    "next_at",
    "claimed_at",
    "published_at",
    "deadline_at",
    "settled_at",
    "by_hand",
    "settled_event",
    "confirmed_unsent_at",
    "overtaken_at",
    "exhausted_by",
    "last_error",
    "last_error_data",
)
_NEW = ("id", "saga_id", *_FIXED, "topic", "body", *_POLICY, "non_retryable", "confirmation_timeout", *_MOVING)
_SET_ONCE = ("planned_at", "released_at", "held_since", "held_by")

# Reading uuid columns as text is four times faster than as UUID objects.
# The JSON column comes last; as text, the driver does not parse it.
_READ = (*_POLICY, "non_retryable::text", "confirmation_timeout", *_MOVING[:-1], "last_error_data::text")
_SNAPSHOT = ", ".join(("id::text", *_FIXED, *_READ))


class Claim(NamedTuple):
    """One command that this process has to publish, and the attempt that was counted for it.

    first: whether it was never claimed before and no person released it from a hold.
    """

    id: str
    attempt_id: int
    round: int
    attempt: int
    topic: str
    saga_id: str
    stream: str
    entity: str
    first: bool
    body: dict[str, Any]


class AttemptEnd(TypedDict):
    """The end of the open attempt of a command."""

    command_id: str
    outcome: str
    ended_at: datetime
    error: str


class AttemptRecord(TypedDict):
    """The result of one publish. All but the message id is ignored if the attempt had ended before."""

    id: int
    message_id: str
    outcome: str
    counted: bool
    ended_at: datetime | None
    error: str


def row(snapshot: CommandSnapshot) -> dict[str, Any]:
    """Return a snapshot as the columns of its row."""
    policy = snapshot.policy
    return {
        **_columns(snapshot, ("id", *_FIXED, "confirmation_timeout", *_MOVING)),
        **{name: getattr(policy, name) for name in _POLICY},
        "non_retryable": policy.non_retryable_errors,
    }


def insert(rows: Sequence[dict[str, Any]]) -> set[str]:
    """Insert new commands; return the ids of those that were inserted. Rows with a known id are not changed.

    A second id for the same compensation violates command_once and raises IntegrityError: it would be sent twice.
    """
    return {id_ for (id_,) in INSERT_COMMANDS.rows(sql.dump(_inserted(), rows))}


def lock(ids: Iterable[str]) -> list[CommandSnapshot]:
    """Lock commands in the order of their ids, waiting for other holders, and return their current snapshots."""
    return _snapshots(LOCK_COMMANDS.rows([list(ids)]))


def attempted(ids: Iterable[str]) -> set[str]:
    """Return those of the commands that have at least one attempt."""
    found = Attempt.objects.filter(command__in=list(ids)).order_by().values_list("command_id", flat=True).distinct()
    return {str(id_) for id_ in found}


def open_attempts(ids: Iterable[str]) -> set[str]:
    """Return those of the commands that have an attempt that has not ended."""
    found = Attempt.objects.filter(command__in=list(ids), ended_at=None).order_by().values_list("command_id", flat=True)
    return {str(id_) for id_ in found}


def lock_available(ids: Iterable[str]) -> list[CommandSnapshot]:
    """Lock those of the commands that are not locked, and return their current snapshots. Never waits."""
    return _snapshots(LOCK_AVAILABLE.rows([list(ids)]))


def lock_overdue(now: datetime, paused: Sequence[str], limit: int) -> list[CommandSnapshot]:
    """Lock a page of messages whose answer was due by `now`, oldest first, without paused services. Never waits."""
    return _snapshots(LOCK_OVERDUE.rows([now, list(paused), limit]))


def lock_lost(claimed_before: datetime, limit: int) -> list[CommandSnapshot]:
    """Lock a page of messages that were claimed before a time and never recorded, oldest first. Never waits."""
    return _snapshots(LOCK_LOST.rows([claimed_before, limit]))


def write(snapshots: Sequence[CommandSnapshot]) -> None:
    """Store the snapshots of locked commands. A lease ends with its claim."""
    if not snapshots:
        return
    rows = (_columns(snapshot, ("id", *_MOVING)) for snapshot in snapshots)
    WRITE_COMMANDS.run(sql.dump(_written(), rows))


def end_attempts(ends: Sequence[AttemptEnd]) -> None:
    """End the open attempts of locked commands; commands without one are ignored."""
    if ends:
        END_ATTEMPTS.run(sql.dump(_ended(), ends))


def insert_attempts(rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert attempts that have ended, of locked commands."""
    Attempt.objects.bulk_create([Attempt(**row) for row in rows])


def record_attempts(records: Sequence[AttemptRecord]) -> None:
    """Store the results of publishing, by attempt. An attempt that has ended in the meantime keeps its outcome."""
    if records:
        RECORD_ATTEMPTS.run(sql.dump(_recorded(), records))


def release(ids: Iterable[str], now: datetime) -> int:
    """Release those of the commands that were not released yet, in the order of their ids; return how many."""
    return RELEASE_COMMANDS.run([list(ids), now, now])


def claim(now: datetime, paused: Sequence[str], worker: str, limit: int) -> list[Claim]:
    """Claim a page of due messages and count the attempts. Never waits; call it in a separate transaction.

    The circuit breakers are read in the same statement: with one database snapshot, the commands that opened a breaker
    are visible together with it, or not at all.
    """
    rows = CLAIM_COMMANDS.rows({"now": now, "paused": list(paused), "worker": worker, "limit": limit})
    return [Claim._make((*row[:-1], orjson.loads(row[-1]))) for row in rows]


def unreachable_before(claims: Iterable[Claim]) -> dict[str, int]:
    """Return how often each of these attempts failed before without being counted; others are omitted."""
    attempts = ({"id": claim.id, "round": claim.round, "number": claim.attempt} for claim in claims)
    return dict(UNREACHABLE.rows(sql.dump(_ATTEMPT_KEY, attempts)))


def lock_saga(saga_id: str) -> list[tuple[str, str]]:
    """Lock the unsettled commands of a saga in the order of their ids; return (id, status)."""
    return LOCK_SAGA.rows([saga_id])


_LOCKED = (
    "Locks in the order of the ids (or skips locked rows) and reads tuples: the ORM's rows cost five times as much."
)
_ONE_FOR_ALL = (
    "Writes values of its own to each of thousands of rows: the ORM's bulk_update builds a CASE for each value."
)
_MANY_PROBES = "One index probe for each of any number of rows, whatever the planner assumes: the ORM has no LATERAL."

LOCK_SAGA = Statement(
    _LOCKED,
    """
    SELECT id::text, status FROM compensation_command
    WHERE saga_id = %s AND status NOT IN ('confirmed', 'skipped', 'withdrawn', 'not_required')
    ORDER BY id FOR NO KEY UPDATE
    """,
)

RELEASE_COMMANDS = Statement(
    "Locks in the order of the ids before it writes, in one statement: the ORM's update has no order.",
    """
    WITH held AS MATERIALIZED (
        SELECT id FROM compensation_command
        WHERE id = ANY(%s::uuid[]) AND released_at IS NULL ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE compensation_command c
    SET released_at = %s, next_at = CASE WHEN status IN ('planned', 'waiting') THEN %s::timestamptz END
    FROM held WHERE c.id = held.id AND c.released_at IS NULL
    """,
)

# The page is MATERIALIZED: if the planner repeated the inner query, it would lock more than a page, and lose the rest.
# The breakers are subqueries of IN: of an array the planner expects ten services, that hardly any row is left, and so
# reads and sorts everything that is due for each page. The id of an attempt is drawn when its command is claimed: a
# join of the two compared each with each, where the planner expected one row (half of the time of a page of 500).
CLAIM_COMMANDS = Statement(
    "Chooses, claims and counts attempts in one statement: with one snapshot, the breakers fit the commands.",
    """
    WITH due AS MATERIALIZED (
        SELECT id, status = 'planned' AND hold_released_at IS NULL AS first FROM compensation_command
        WHERE kind = 'publish' AND status IN ('planned', 'waiting') AND released_at IS NOT NULL AND held_since IS NULL
          AND next_at <= %(now)s AND service <> ALL(%(paused)s::text[])
          AND (service NOT IN (SELECT service FROM compensation_breaker WHERE state <> 'closed')
               OR id IN (
                   SELECT unnest(b.canary) FROM compensation_breaker b
                   WHERE b.state = 'canary' AND NOT EXISTS (
                       SELECT FROM compensation_attempt a
                       WHERE a.command_id = ANY(b.canary) AND a.id > b.canary_after
                         AND a.outcome IN ('refused', 'deadline'))))
        ORDER BY next_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE compensation_command c
        SET status = 'publishing', attempt = c.attempt + 1, claimed_at = %(now)s, next_at = NULL
        FROM due WHERE c.id = due.id
        RETURNING c.id, nextval('compensation_attempt_id_seq') AS attempt_id, c.round, c.attempt, c.topic,
            c.saga_id::text, c.stream, c.entity, due.first, c.body::text AS body
    ), tried AS (
        INSERT INTO compensation_attempt
            (id, command_id, round, number, started_at, worker, message_id, outcome, counted, error)
        SELECT attempt_id, id, round, attempt, %(now)s, %(worker)s, '', 'open', TRUE, '' FROM claimed
    )
    SELECT id::text, attempt_id, round, attempt, topic, saga_id, stream, entity, first, body FROM claimed
    """,
)

_ATTEMPT_KEY = {"id": "uuid", "round": "integer", "number": "integer"}

UNREACHABLE = Statement(
    "Compares three columns with a page of rows: the ORM compares one.",
    f"""
    SELECT a.command_id::text, count(*)
    FROM {sql.recordset(_ATTEMPT_KEY)}
    JOIN compensation_attempt a ON a.command_id = r.id AND a.round = r.round AND a.number = r.number
    WHERE a.outcome IN ('unreachable', 'blocked')
    GROUP BY a.command_id
    """,
)


@cache
def _inserted() -> dict[str, str]:
    return sql.columns_of(Command, *_NEW, *_SET_ONCE)


def _insert_sql() -> str:
    columns = _inserted()
    return f"""
        INSERT INTO compensation_command ({sql.names(columns)})
        SELECT {sql.names(columns, "r")} FROM {sql.recordset(columns)} ORDER BY r.id
        ON CONFLICT (id) DO NOTHING RETURNING id::text
    """


@cache
def _written() -> dict[str, str]:
    return sql.columns_of(Command, "id", *_MOVING)


def _write_sql() -> str:
    columns = sql.columns_of(Command, *_MOVING)
    return f"""
        UPDATE compensation_command c SET ({sql.names(columns)}) = ROW({sql.names(columns, "r")}),
            lease_until = CASE WHEN r.claimed_at IS NOT NULL THEN c.lease_until END,
            held_since = CASE WHEN r.status = 'planned' THEN c.held_since END,
            held_by = CASE WHEN r.status = 'planned' THEN c.held_by END
        FROM {sql.recordset(_written())} WHERE c.id = r.id
    """


@cache
def _ended() -> dict[str, str]:
    return sql.columns_of(Attempt, "command", "outcome", "ended_at", "error")


def _end_sql() -> str:
    return f"""
        UPDATE compensation_attempt a SET outcome = r.outcome, ended_at = r.ended_at, error = r.error
        FROM {sql.recordset(_ended())} WHERE a.command_id = r.command_id AND a.ended_at IS NULL
    """


@cache
def _recorded() -> dict[str, str]:
    return sql.columns_of(Attempt, "id", "message_id", "outcome", "counted", "ended_at", "error")


def _record_sql() -> str:
    return f"""
        UPDATE compensation_attempt a
        SET message_id = r.message_id,
            outcome = CASE WHEN a.ended_at IS NULL THEN r.outcome ELSE a.outcome END,
            counted = CASE WHEN a.ended_at IS NULL THEN r.counted ELSE a.counted END,
            error = CASE WHEN a.ended_at IS NULL THEN r.error ELSE a.error END,
            ended_at = COALESCE(a.ended_at, r.ended_at)
        FROM {sql.recordset(_recorded())} WHERE a.id = r.id
    """


INSERT_COMMANDS = Statement("Returns the ids of the rows that are new: the ORM's upserts return all.", _insert_sql)
WRITE_COMMANDS = Statement(_ONE_FOR_ALL, _write_sql)
END_ATTEMPTS = Statement(_ONE_FOR_ALL, _end_sql)
RECORD_ATTEMPTS = Statement(_ONE_FOR_ALL, _record_sql)

_SELECT = f"SELECT {_SNAPSHOT} FROM compensation_command"
LOCK_COMMANDS = Statement(_LOCKED, f"{_SELECT} WHERE id = ANY(%s::uuid[]) ORDER BY id FOR NO KEY UPDATE")
LOCK_AVAILABLE = Statement(_LOCKED, f"{LOCK_COMMANDS.text} SKIP LOCKED")
LOCK_OVERDUE = Statement(
    _LOCKED,
    f"""
    {_SELECT} WHERE kind = 'publish' AND status = 'published' AND deadline_at <= %s AND service <> ALL(%s::text[])
    ORDER BY deadline_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
    """,
)
LOCK_LOST = Statement(
    _LOCKED,
    f"""
    {_SELECT} WHERE kind = 'publish' AND status = 'publishing' AND claimed_at < %s
    ORDER BY claimed_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
    """,
)

# --- the circuit breaker and the switches -----------------------------------------------------------------------------

LOCK_SERVICES = Statement(
    "Takes advisory locks in a fixed order: the ORM has none.",
    """
    SELECT pg_advisory_xact_lock(%s, key)
    FROM (SELECT DISTINCT hashtext(service) AS key FROM unnest(%s::text[]) AS service ORDER BY 1) AS keys
    """,
)

COUNT_PLANNED = Statement(
    "Adds, forgets and sums in one statement, by the database's clock: the ORM needs four.",
    """
    WITH moment AS MATERIALIZED (SELECT date_trunc('minute', clock_timestamp()) AS minute),
    added AS (
        INSERT INTO compensation_plannedminute AS p (service, minute, commands)
        SELECT r.service, moment.minute, r.commands
        FROM unnest(%(services)s::text[], %(commands)s::bigint[]) AS r(service, commands), moment
        ON CONFLICT (service, minute) DO UPDATE SET commands = p.commands + EXCLUDED.commands
        RETURNING service, minute, commands
    ), forgotten AS (
        DELETE FROM compensation_plannedminute p USING moment
        WHERE p.service = ANY(%(services)s::text[]) AND p.minute <= moment.minute - %(window)s::interval
    )
    SELECT added.service, added.commands + COALESCE(sum(p.commands), 0)::bigint
    FROM added LEFT JOIN compensation_plannedminute p
      ON p.service = added.service AND p.minute <> added.minute
     AND p.minute > added.minute - %(window)s::interval
    GROUP BY added.service, added.commands
    """,
)

SWITCHES_AND_BREAKERS = Statement(
    "One query for two tables with columns of their own, because every claim and every admin page reads them.",
    """
    SELECT service, changed_at, changed_by, reason, paused,
           NULL AS state, NULL AS cause, NULL::bigint AS planned, NULL::bigint AS allowed, NULL::text[] AS canary
    FROM compensation_switch
    UNION ALL
    SELECT service, changed_at, changed_by, reason, NULL, state, cause, planned, allowed, canary::text[]
    FROM compensation_breaker
    """,
)

# --- held commands ----------------------------------------------------------------------------------------------------

# LATERAL … OFFSET 0 forces the index of unclaimed commands, whatever number of entities the planner assumes.
UNCLAIMED_OF_ENTITIES = Statement(
    _MANY_PROBES,
    """
    SELECT c.id::text, c.saga_id::text, c.stream, c.entity, c.held_by::text
    FROM unnest(%s::text[], %s::text[]) AS w(stream, entity)
    CROSS JOIN LATERAL (
        SELECT id, saga_id, stream, entity, held_by, hold_released_at FROM compensation_command
        WHERE entity = w.entity AND stream = w.stream AND status = 'planned' OFFSET 0
    ) AS c
    WHERE c.hold_released_at IS NULL
    """,
)

HELD_PAGE = Statement(
    "Continues after a pair of values, by the index of both: the ORM compares no pairs.",
    """
    SELECT id::text, saga_id::text, stream, entity, held_by::text, held_since FROM compensation_command
    WHERE status = 'planned' AND held_since IS NOT NULL AND (held_since, id) > (COALESCE(%s::timestamptz, '-infinity'),
        COALESCE(%s::uuid, '00000000-0000-0000-0000-000000000000'))
    ORDER BY held_since, id LIMIT %s
    """,
)

HOLD = Statement(
    _ONE_FOR_ALL,
    """
    WITH locked AS MATERIALIZED (
        SELECT c.id, w.other FROM compensation_command c JOIN unnest(%s::uuid[], %s::uuid[]) AS w(id, other) USING (id)
        WHERE c.status = 'planned' AND c.hold_released_at IS NULL AND c.held_by IS DISTINCT FROM w.other
        ORDER BY c.id FOR NO KEY UPDATE OF c SKIP LOCKED
    )
    UPDATE compensation_command c SET held_by = locked.other, held_since = COALESCE(c.held_since, %s)
    FROM locked WHERE c.id = locked.id AND c.status = 'planned' AND c.hold_released_at IS NULL
    """,
)

# A command that became due while it was held is due from now on: it is not late.
_END_HOLD = """
    held_since = NULL, held_by = NULL, next_at = CASE WHEN c.next_at IS NOT NULL THEN GREATEST(c.next_at, %s) END
"""

END_HOLD = Statement(
    "Compares pairs of values and skips locked rows, in one statement.",
    f"""
    WITH locked AS MATERIALIZED (
        SELECT c.id FROM compensation_command c JOIN unnest(%s::uuid[], %s::uuid[]) AS w(id, other)
        ON c.id = w.id AND c.held_by = w.other
        ORDER BY c.id FOR NO KEY UPDATE OF c SKIP LOCKED
    )
    UPDATE compensation_command c SET {_END_HOLD} FROM locked WHERE c.id = locked.id AND c.held_since IS NOT NULL
    """,
)

RELEASE_HOLD = Statement(
    "Locks in the order of the ids before it writes, in one statement: the ORM's update has no order.",
    f"""
    WITH locked AS MATERIALIZED (
        SELECT id FROM compensation_command
        WHERE id = ANY(%s::uuid[]) AND held_since IS NOT NULL ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE compensation_command c SET {_END_HOLD}, hold_released_at = %s
    FROM locked WHERE c.id = locked.id AND c.held_since IS NOT NULL
    """,
)

# --- commands that nobody answers -------------------------------------------------------------------------------------

# The condition of the index command_answered. Only that index has this order, so the planner cannot prefer to search
# a million other rows for a kind that has none.
_ANSWERED = "status = 'confirmed' AND NOT by_hand AND confirmed_unsent_at IS NULL AND confirmation <> 'published'"
CONFIRMED_KINDS = Statement(
    "Jumps from one kind to the next in an index: the ORM's DISTINCT reads every confirmed command.",
    f"""
    WITH RECURSIVE kinds AS (
        (SELECT service, name FROM compensation_command WHERE {_ANSWERED} ORDER BY service, name LIMIT 1)
        UNION ALL
        SELECT next.service, next.name FROM kinds CROSS JOIN LATERAL (
            SELECT service, name FROM compensation_command
            WHERE {_ANSWERED} AND (service, name) > (kinds.service, kinds.name) ORDER BY service, name LIMIT 1
        ) AS next
    )
    SELECT service, name FROM kinds
    """,
)

# OFFSET 0 keeps the name out of the search: with it the planner would also read the whole index of all sagas' commands.
_OPEN_OF_SERVICE = f"""
    SELECT id, topic, name, confirmation, planned_at, published_at FROM compensation_command
    WHERE service = kind.service AND status IN ({", ".join(f"'{status}'" for status in OPEN)})
"""
_SENT = "name = kind.name AND confirmation = 'event' AND published_at IS NOT NULL"
SENT_WITHOUT_ANSWER = Statement(
    "Examines the attempts of a sample of each kind, and counts only if needed, with one snapshot: the ORM needs five "
    "queries for each.",
    f"""
    SELECT kind.service, kind.name, found.topic, found.number, found.since, found.latest
    FROM unnest(%(services)s::text[], %(names)s::text[]) AS kind(service, name)
    CROSS JOIN LATERAL (
        WITH sample AS MATERIALIZED (
            (SELECT id, topic FROM ({_OPEN_OF_SERVICE} ORDER BY planned_at OFFSET 0) AS c
             WHERE {_SENT} ORDER BY planned_at LIMIT %(sample)s)
            UNION
            (SELECT id, topic FROM ({_OPEN_OF_SERVICE} ORDER BY planned_at DESC OFFSET 0) AS c
             WHERE {_SENT} ORDER BY planned_at DESC LIMIT %(sample)s)
        ), tries AS MATERIALIZED (
            SELECT a.outcome, a.started_at FROM sample
            CROSS JOIN LATERAL (
                SELECT outcome, started_at FROM compensation_attempt WHERE command_id = sample.id OFFSET 0
            ) AS a
        )
        SELECT
            (SELECT max(topic) FROM sample) AS topic, sent.number,
            (SELECT min(started_at) FROM tries WHERE outcome IN ('published', 'deadline')) AS since, sent.latest
        FROM (
            SELECT count(*) AS number, max(published_at) AS latest
            FROM ({_OPEN_OF_SERVICE} OFFSET 0) AS c WHERE {_SENT}
        ) AS sent
        WHERE EXISTS (SELECT FROM tries WHERE outcome = 'deadline')
          AND NOT EXISTS (SELECT FROM tries WHERE outcome = 'refused')
    ) AS found
    """,
)

# --- retention --------------------------------------------------------------------------------------------------------

# LATERAL … OFFSET 0 forces an index lookup for each saga or command, whatever their number.
COMMANDS_OF_SAGAS = Statement(
    _MANY_PROBES,
    """
    SELECT c.id::text FROM unnest(%s::uuid[]) AS w(saga_id)
    CROSS JOIN LATERAL (SELECT id FROM compensation_command WHERE saga_id = w.saga_id OFFSET 0) AS c
    """,
)

DELETE_ATTEMPTS = Statement(
    "Attempts are append-only, and their model refuses to delete; retention may.",
    """
    DELETE FROM compensation_attempt WHERE id = ANY(ARRAY(
        SELECT a.id FROM unnest(%s::uuid[]) AS w(command_id)
        CROSS JOIN LATERAL (SELECT id FROM compensation_attempt WHERE command_id = w.command_id OFFSET 0) AS a
    ))
    """,
)

DELETE_COMMANDS = Statement(
    "The ORM would look for the attempts of each command, which are deleted already.",
    "DELETE FROM compensation_command WHERE id = ANY(%s::uuid[])",
)

# --- rows and snapshots -----------------------------------------------------------------------------------------------


def _columns(snapshot: CommandSnapshot, names: Sequence[str]) -> dict[str, Any]:
    return dict(zip(names, attrgetter(*names)(snapshot), strict=True))


def _snapshots(rows: Iterable[tuple[Any, ...]]) -> list[CommandSnapshot]:
    return [_snapshot(row) for row in rows]


def _snapshot(row: tuple[Any, ...]) -> CommandSnapshot:
    fixed, policy, rest, data = row[:9], row[9:15], row[15:-1], row[-1]
    return CommandSnapshot(*(*fixed, _policy(policy), *rest, orjson.loads(data) if data else None))


@lru_cache(maxsize=256)
def _policy(columns: tuple[Any, ...]) -> RetryPolicy:
    """Return the retry policy of a row. There are only a few policies, so thousands of rows share the objects."""
    *numbers, errors = columns
    return RetryPolicy(**dict(zip(_POLICY, numbers, strict=True)), non_retryable_errors=tuple(orjson.loads(errors)))
