"""Read and write snapshots as rows, with one statement for thousands of commands.

Two rules prevent deadlocks: whoever waits for row locks takes them in the order of the ids (`lock`), and publishers and
sweepers do not wait while they hold one (`lock_available`, and every SKIP LOCKED here). Locks are NO KEY, because
nothing here changes a key, so the foreign key checks of new attempts do not wait for them.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, TypedDict

import orjson
from django.db import connection

from bridge import sql
from compensation.models import Attempt, Command
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
    with connection.cursor() as cursor:
        cursor.execute(_insert_sql(), sql.dump(_inserted(), rows))
        return {id_ for (id_,) in cursor.fetchall()}


def lock(ids: Iterable[str]) -> list[CommandSnapshot]:
    """Lock commands in the order of their ids, waiting for other holders, and return their current snapshots."""
    return _read("WHERE id = ANY(%s::uuid[]) ORDER BY id FOR NO KEY UPDATE", [list(ids)])


def attempted(ids: Iterable[str]) -> set[str]:
    """Return those of the commands that have at least one attempt."""
    with connection.cursor() as cursor:
        cursor.execute(_ATTEMPTED, [list(ids)])
        return {id_ for (id_,) in cursor.fetchall()}


def lock_available(ids: Iterable[str]) -> list[CommandSnapshot]:
    """Lock those of the commands that are not locked, and return their current snapshots. Never waits."""
    return _read("WHERE id = ANY(%s::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED", [list(ids)])


def lock_overdue(now: datetime, paused: Sequence[str], limit: int) -> list[CommandSnapshot]:
    """Lock a page of commands whose answer was due by `now`, oldest first, without paused services. Never waits."""
    return _read(
        "WHERE status = 'published' AND deadline_at <= %s AND service <> ALL(%s::text[]) "
        "ORDER BY deadline_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED",
        [now, list(paused), limit],
    )


def lock_lost(claimed_before: datetime, limit: int) -> list[CommandSnapshot]:
    """Lock a page of commands that were claimed before a time and never recorded, oldest first. Never waits."""
    return _read(
        "WHERE status = 'publishing' AND claimed_at < %s ORDER BY claimed_at LIMIT %s FOR NO KEY UPDATE SKIP LOCKED",
        [claimed_before, limit],
    )


def write(snapshots: Sequence[CommandSnapshot]) -> None:
    """Store the snapshots of locked commands."""
    if not snapshots:
        return
    rows = (_columns(snapshot, ("id", *_MOVING)) for snapshot in snapshots)
    _execute(_write_sql(), sql.dump(_written(), rows))


def end_attempts(ends: Sequence[AttemptEnd]) -> None:
    """End the open attempts of locked commands; commands without one are ignored."""
    if ends:
        _execute(_end_sql(), sql.dump(_ended(), ends))


def record_attempts(records: Sequence[AttemptRecord]) -> None:
    """Store the results of publishing, by attempt. An attempt that has ended in the meantime keeps its outcome."""
    if records:
        _execute(_record_sql(), sql.dump(_recorded(), records))


def release(ids: Iterable[str], now: datetime) -> int:
    """Release those of the commands that were not released yet, in the order of their ids; return how many."""
    return _execute(_RELEASE, [list(ids), now, now])


def claim(now: datetime, paused: Sequence[str], worker: str, limit: int) -> list[Claim]:
    """Claim a page of due commands and count the attempts. Never waits; call it in a separate transaction.

    The circuit breakers are read in the same statement: with one database snapshot, the commands that opened a breaker
    are visible together with it, or not at all.
    """
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"now": now, "paused": list(paused), "worker": worker, "limit": limit})
        return [Claim._make((*row[:-1], orjson.loads(row[-1]))) for row in cursor.fetchall()]


def unreachable_before(claims: Iterable[Claim]) -> dict[str, int]:
    """Return how often each of these attempts failed before without being counted; others are omitted."""
    with connection.cursor() as cursor:
        attempts = ({"id": claim.id, "round": claim.round, "number": claim.attempt} for claim in claims)
        cursor.execute(_UNREACHABLE, sql.dump(_ATTEMPT_KEY, attempts))
        return dict(cursor.fetchall())


def lock_saga(saga_id: str) -> list[tuple[str, str]]:
    """Lock the unsettled commands of a saga in the order of their ids; return (id, status)."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_SAGA, [saga_id])
        found: list[tuple[str, str]] = cursor.fetchall()
        return found


_LOCK_SAGA = """
    SELECT id::text, status FROM compensation_command
    WHERE saga_id = %s AND status NOT IN ('confirmed', 'skipped', 'withdrawn')
    ORDER BY id FOR NO KEY UPDATE
"""

_ATTEMPTED = "SELECT DISTINCT command_id::text FROM compensation_attempt WHERE command_id = ANY(%s::uuid[])"

_RELEASE = """
    WITH held AS MATERIALIZED (
        SELECT id FROM compensation_command
        WHERE id = ANY(%s::uuid[]) AND released_at IS NULL ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE compensation_command c
    SET released_at = %s, next_at = CASE WHEN status IN ('planned', 'waiting') THEN %s::timestamptz END
    FROM held WHERE c.id = held.id AND c.released_at IS NULL
"""

# The page is MATERIALIZED: if the planner repeated the inner query, it would lock more than a page, and lose the rest.
_CLAIM = """
    WITH due AS MATERIALIZED (
        SELECT id, status = 'planned' AND hold_released_at IS NULL AS first FROM compensation_command
        WHERE status IN ('planned', 'waiting') AND released_at IS NOT NULL AND held_since IS NULL
          AND next_at <= %(now)s AND service <> ALL(%(paused)s::text[])
          AND (service <> ALL(ARRAY(SELECT service FROM compensation_breaker WHERE state <> 'closed'))
               OR id = ANY(ARRAY(
                   SELECT unnest(b.canary) FROM compensation_breaker b
                   WHERE b.state = 'canary' AND NOT EXISTS (
                       SELECT FROM compensation_attempt a
                       WHERE a.command_id = ANY(b.canary) AND a.id > b.canary_after
                         AND a.outcome IN ('refused', 'deadline')))))
        ORDER BY next_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE compensation_command c
        SET status = 'publishing', attempt = c.attempt + 1, claimed_at = %(now)s, next_at = NULL
        FROM due WHERE c.id = due.id
        RETURNING c.id, c.round, c.attempt, c.topic, c.saga_id::text, c.stream, c.entity, due.first,
            c.body::text AS body
    ), tried AS (
        INSERT INTO compensation_attempt
            (command_id, round, number, started_at, worker, message_id, outcome, counted, error)
        SELECT id, round, attempt, %(now)s, %(worker)s, '', 'open', TRUE, '' FROM claimed
        RETURNING id, command_id
    )
    SELECT claimed.id::text, tried.id, claimed.round, claimed.attempt, claimed.topic, claimed.saga_id, claimed.stream,
        claimed.entity, claimed.first, claimed.body
    FROM claimed JOIN tried ON tried.command_id = claimed.id
"""

_ATTEMPT_KEY = {"id": "uuid", "round": "integer", "number": "integer"}

_UNREACHABLE = f"""
    SELECT a.command_id::text, count(*)
    FROM {sql.recordset(_ATTEMPT_KEY)}
    JOIN compensation_attempt a ON a.command_id = r.id AND a.round = r.round AND a.number = r.number
    WHERE a.outcome IN ('unreachable', 'blocked')
    GROUP BY a.command_id
"""  # noqa: S608 (constants of this module)


@cache
def _inserted() -> dict[str, str]:
    return sql.columns_of(Command, *_NEW, *_SET_ONCE)


@cache
def _insert_sql() -> str:
    columns = _inserted()
    return f"""
        INSERT INTO compensation_command ({sql.names(columns)})
        SELECT {sql.names(columns, "r")} FROM {sql.recordset(columns)} ORDER BY r.id
        ON CONFLICT (id) DO NOTHING RETURNING id::text
    """  # noqa: S608 (the names are the model's columns)


@cache
def _written() -> dict[str, str]:
    return sql.columns_of(Command, "id", *_MOVING)


@cache
def _write_sql() -> str:
    columns = sql.columns_of(Command, *_MOVING)
    return f"""
        UPDATE compensation_command c SET ({sql.names(columns)}) = ROW({sql.names(columns, "r")}),
            held_since = CASE WHEN r.status = 'planned' THEN c.held_since END,
            held_by = CASE WHEN r.status = 'planned' THEN c.held_by END
        FROM {sql.recordset(_written())} WHERE c.id = r.id
    """  # noqa: S608 (the names are the model's columns)


@cache
def _ended() -> dict[str, str]:
    return sql.columns_of(Attempt, "command", "outcome", "ended_at", "error")


@cache
def _end_sql() -> str:
    return f"""
        UPDATE compensation_attempt a SET outcome = r.outcome, ended_at = r.ended_at, error = r.error
        FROM {sql.recordset(_ended())} WHERE a.command_id = r.command_id AND a.ended_at IS NULL
    """  # noqa: S608 (the names are the model's columns)


@cache
def _recorded() -> dict[str, str]:
    return sql.columns_of(Attempt, "id", "message_id", "outcome", "counted", "ended_at", "error")


@cache
def _record_sql() -> str:
    return f"""
        UPDATE compensation_attempt a
        SET message_id = r.message_id,
            outcome = CASE WHEN a.ended_at IS NULL THEN r.outcome ELSE a.outcome END,
            counted = CASE WHEN a.ended_at IS NULL THEN r.counted ELSE a.counted END,
            error = CASE WHEN a.ended_at IS NULL THEN r.error ELSE a.error END,
            ended_at = COALESCE(a.ended_at, r.ended_at)
        FROM {sql.recordset(_recorded())} WHERE a.id = r.id
    """  # noqa: S608 (the names are the model's columns)


def _columns(snapshot: CommandSnapshot, names: Sequence[str]) -> dict[str, Any]:
    return dict(zip(names, attrgetter(*names)(snapshot), strict=True))


def _read(where: str, parameters: list[Any]) -> list[CommandSnapshot]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_SNAPSHOT} FROM compensation_command {where}", parameters)  # noqa: S608 (constants)
        return [_snapshot(row) for row in cursor.fetchall()]


def _snapshot(row: tuple[Any, ...]) -> CommandSnapshot:
    fixed, policy, rest, data = row[:9], row[9:15], row[15:-1], row[-1]
    return CommandSnapshot(*(*fixed, _policy(policy), *rest, orjson.loads(data) if data else None))


@lru_cache(maxsize=256)
def _policy(columns: tuple[Any, ...]) -> RetryPolicy:
    """Return the retry policy of a row. There are only a few policies, so thousands of rows share the objects."""
    *numbers, errors = columns
    return RetryPolicy(**dict(zip(_POLICY, numbers, strict=True)), non_retryable_errors=tuple(orjson.loads(errors)))


def _execute(statement: str, parameters: list[Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        changed: int = cursor.rowcount
        return changed
