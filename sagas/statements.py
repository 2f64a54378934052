"""Rows ⇄ engine state: the statements of the apply turn, each named and explained. All run in the caller's transaction.

Values go in as one array a column (`bridge.sql.recordset`) and come back as tuples: the ORM's objects cost five times
as much to read and its upserts half of the throughput. Columns are taken from the models.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import orjson
from django.db import connection

from bridge import sql
from sagas.definitions import registry
from sagas.engine.decide import SagaIdentity
from sagas.engine.definition import Event
from sagas.engine.facts import WIRE, Fact
from sagas.engine.state import LaneState, SagaCounts, SagaState, StepFacts, StepKey, lane_from, saga_from
from sagas.models import Lane as LaneRow
from sagas.models import Parked, SagaEvent, SagaLog, SagaStep

TALLY_COLUMNS = (
    "lanes_known",
    "lanes_open",
    "lanes_processed",
    "lanes_undoing",
    "lanes_undone",
    "lanes_settled",
    "commands_on_the_way",
    "commands_exhausted",
    "commands_confirmed",
    "commands_given_up",
    "steps_count",
    "failed_steps_count",
)
SAGA_BIRTH = ("id", "saga_type", "version", "failure_scope", "key", "created_at")
# What nearly every event changes, and what few do: a narrow write costs a third of a whole one.
SAGA_COUNTS = ("status", "end_time", "last_event_at", *TALLY_COLUMNS, "events_count", "updated_at")
SAGA_WORDS = ("correlation_id", "start_time", "error_message", "state", "set_aside_at", "set_aside_error")
LANE_CHANGES = ("known", "failed", "outcome", "opened_at", "state")
STEP_CHANGES = (
    "status",
    "rank",
    "occurred_at",
    "event_id",
    "event_type",
    "error_message",
    "metadata",
    "compensation_timestamp",
)


# The share of the server's lock table that the pages under way on this host may fill with their keys. The rest is for
# everybody else: tables, other hosts, other databases of the server. It holds about twice what its settings promise.
LOCKS_SHARE = 0.75

# Rows that left the queue and still take its room: some 2 MB.
DEAD_ROWS = 20_000


class PendingRow(NamedTuple):
    """An event that waits, under its routing key."""

    id: int
    key: str
    lane: str | None


class EventRow(NamedTuple):
    """An event as the apply turn reads it. `key` is what the event names, `routing_key` what it waits under."""

    pk: int
    routing_key: str
    lane: str | None
    source: str
    event_id: str
    stream: str
    type: str
    key: str
    entity: str
    correlation: str
    occurred_at: datetime
    content: Mapping[str, Any]

    @property
    def spec(self) -> Event | None:
        """What the newest definition that declares its type says of it; None for our own facts and unknown types."""
        return registry.event(self.stream, self.type) if self.source == WIRE else None

    def found_by_entity(self) -> bool:
        """Whether its entity may find its saga: its type may carry a key of the service's own, or it names no key."""
        return not self.key or (self.spec is not None and self.spec.own_key)

    def fact(self) -> Fact:
        """The same for the engine."""
        return Fact(
            self.event_id,
            self.type,
            self.occurred_at,
            self.source,
            self.entity,
            self.lane or "",
            self.correlation,
            self.content,
        )


class SagaRow(NamedTuple):
    """A stored saga."""

    id: str
    saga_type: str
    version: int
    scope: str
    key: str
    saga: SagaState
    events_count: int
    set_aside: bool
    created_at: datetime | None = None  # of one that is not stored yet

    @property
    def routing_key(self) -> str:
        return f"{self.saga_type}:{self.key}"


class StoredRow(NamedTuple):
    """A stored lane or step: its pk, and its values in the order of LANE_CHANGES or STEP_CHANGES."""

    pk: int
    values: tuple[Any, ...]


class StoredLanes(NamedTuple):
    """What is stored of one saga's lanes."""

    lanes: dict[str, LaneState]
    rows: dict[str, StoredRow]  # by entity
    steps: dict[str, dict[StepKey, StoredRow]]  # by entity


NOTHING_STORED = StoredLanes({}, {}, {})  # never written to


def content_types() -> list[str]:
    """Event types whose meaning needs their body, in any version of any saga type."""
    return sorted({event.type for item in registry.all_definitions() for event in item.events if event.reads_content})


# --- the queue ------------------------------------------------------------------------------------------------------


def claim(after: int, limit: int) -> list[PendingRow]:
    """The next page of the queue after an id. Takes no lock: locking the keys is what claims."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, key, lane FROM bridge_pending WHERE id > %s ORDER BY id LIMIT %s",
            [after, limit],
        )
        return [PendingRow(*row) for row in cursor.fetchall()]


def pending_of(keys: Sequence[str]) -> list[int]:
    """What waits under these routing keys. Reads the queue whole: it is small by construction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM bridge_pending WHERE key = ANY(%s) ORDER BY id", [list(keys)])
        return [row[0] for row in cursor.fetchall()]


def most_keys(turns: int) -> int:
    """How many keys a page may lock where `turns` pages are applied at once.

    Where the lock table is full, every transaction of the server that needs another lock fails.
    """
    return max(1, int(_lock_table() * LOCKS_SHARE) // (turns * _LockShare.factor))


def take_fewer_locks() -> None:
    """From now on half as many in this process: more hosts than this one, or somebody else, fill the lock table."""
    _LockShare.factor = min(_LockShare.factor * 2, _LockShare.MOST)


class _LockShare:
    """By how much fewer locks this process takes than its share. A process lives for a thousand tasks."""

    MOST = 64
    factor = 1


@cache
def _lock_table() -> int:
    """How many locks the server promises to hold at once; asked once a process, it takes a restart to change."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('max_locks_per_transaction')::bigint"
            " * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)"
        )
        return int(cursor.fetchone()[0])


def try_lock(keys: Iterable[str]) -> set[str]:
    """Locks what can be locked without waiting, until the transaction ends; returns which keys those are.

    The keys are a parameter: in a filter over a subquery the planner may push the volatile function down and take
    a lock on every row it reads.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT k FROM unnest(%s::text[]) AS k WHERE pg_try_advisory_xact_lock(hashtextextended(k, 0))",
            [sorted(set(keys))],
        )
        return {row[0] for row in cursor.fetchall()}


def acquire_worker_slot(host: str, turns: int) -> bool:
    """Takes one of the turns in which a host applies pages, until the transaction ends; False where none is free.

    Never waits.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT turn FROM unnest(%s::text[]) AS turn"
            " WHERE pg_try_advisory_xact_lock(hashtextextended(turn, 0)) LIMIT 1",
            [[f"apply on {host} {number}" for number in range(turns)]],
        )
        return cursor.fetchone() is not None


def lock(key: str) -> None:
    """Waits for a routing key's lock and holds it until the transaction ends. For decisions: one key at a time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])


def vacuum_queue() -> bool:
    """Lets the room of rows that left the queue be used again, where that is much of it; returns whether it was.

    autovacuum looks once a minute at most (autovacuum_naptime), and at full speed the queue's file would have grown to
    some 60 MB by then. Giving room back to the disk is left to it: that needs a lock which nothing else may hold.
    Cannot run in a transaction, and does nothing there.
    """
    if connection.in_atomic_block:
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_stat_get_dead_tuples(t), pg_stat_get_live_tuples(t) FROM to_regclass('bridge_pending') t"
        )
        dead, live = cursor.fetchone()
        if dead < max(DEAD_ROWS, live // 4):
            return False
        cursor.execute("VACUUM (SKIP_LOCKED, TRUNCATE OFF) bridge_pending")
    return True


def read_events(ids: Sequence[int], content_types: Sequence[str]) -> list[EventRow]:
    """The events among `ids` that still wait, in the order of their ids.

    Must be a statement of its own after the lock was taken: a statement's snapshot is older than the locks it takes.
    Bodies are read only of `content_types` and of our own facts.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_EVENT_COLUMNS} FROM bridge_pending p JOIN bridge_event e ON e.id = p.id"  # noqa: S608
            " WHERE p.id = ANY(%s) ORDER BY p.id",
            [list(content_types), list(ids)],
        )
        return [_event(row) for row in cursor.fetchall()]


def take_parked(keys: Sequence[tuple[str, str]], content_types: Sequence[str]) -> list[EventRow]:
    """Takes the events parked under these (stream, key) out of the car park, for the sagas that are born here."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH gone AS (
                DELETE FROM sagas_parked WHERE event IN (
                    SELECT found.event
                    FROM unnest(%s::text[], %s::text[]) AS w(stream, key)
                    CROSS JOIN LATERAL (
                        SELECT event FROM sagas_parked WHERE stream = w.stream AND key = w.key OFFSET 0
                    ) AS found
                ) RETURNING event AS id, stream || ':' || key AS key, NULL::text AS lane
            )
            SELECT {_EVENT_COLUMNS} FROM gone p JOIN bridge_event e ON e.id = p.id ORDER BY p.id
            """,  # noqa: S608
            [[stream for stream, _ in keys], [key for _, key in keys], list(content_types)],
        )
        return [_event(row) for row in cursor.fetchall()]


def reroute(moves: Sequence[tuple[int, str, str | None]]) -> None:
    """Lets events wait under another routing key: (event, key, lane)."""
    _for_each(
        "UPDATE bridge_pending p SET key = r.key, lane = r.lane FROM {rows} WHERE p.id = r.id",
        {"id": "bigint", "key": "text", "lane": "text"},
        [{"id": pk, "key": key, "lane": lane} for pk, key, lane in moves],
    )


def park(rows: Sequence[Mapping[str, Any]]) -> None:
    """Moves events from the queue to the car park. One that is parked already stays as it is."""
    columns = _columns(Parked, "event", "stream", "key", "entity", "by_entity", "reason", "since", "suggestion")
    names = sql.names(columns)
    _for_each(
        f"""
        WITH r AS MATERIALIZED (SELECT r.* FROM {{rows}}),
        gone AS (DELETE FROM bridge_pending WHERE id IN (SELECT event FROM r))
        INSERT INTO sagas_parked ({names}) SELECT {names} FROM r ON CONFLICT (event) DO NOTHING
        """,  # noqa: S608
        columns,
        rows,
    )


def unpark(where: str, parameters: Sequence[Any]) -> int:
    """Moves parked events back to the queue, under the routing key of their own; returns how many.

    One statement, so that a birth that takes the same rows and this one cannot both have them.
    """
    with connection.cursor() as cursor:
        cursor.execute(_UNPARK.format(where=where), list(parameters))
        return int(cursor.rowcount)


def unparked(where: str, parameters: Sequence[Any]) -> list[str]:
    """Moves parked events back to the queue as `unpark` does; returns the routing key of each of them."""
    with connection.cursor() as cursor:
        cursor.execute(_UNPARK.format(where=where) + " RETURNING key", list(parameters))
        return [row[0] for row in cursor.fetchall()]


_UNPARK = """
    WITH gone AS (
        DELETE FROM sagas_parked WHERE {where} RETURNING event, stream, key, entity
    )
    INSERT INTO bridge_pending (id, key)
    SELECT event, stream || ':' || CASE WHEN key = '' THEN '@' || entity ELSE key END FROM gone
"""


def unpark_entities(entities: Sequence[tuple[str, str]]) -> int:
    """Matches parked events again whose entity's lane has just opened: (stream, entity)."""
    return unpark(_OF_ENTITIES, _columns_of(entities))


def unparked_entities(entities: Sequence[tuple[str, str]]) -> list[str]:
    """Matches the same events again; returns the routing key of each, so that the caller can apply them at once."""
    return unparked(_OF_ENTITIES, _columns_of(entities))


_OF_ENTITIES = """event IN (
    SELECT found.event
    FROM unnest(%s::text[], %s::text[]) AS w(stream, entity)
    CROSS JOIN LATERAL (
        SELECT event FROM sagas_parked
        WHERE stream = w.stream AND entity = w.entity AND by_entity AND reason = 'no_saga' OFFSET 0
    ) AS found
)"""


def _columns_of(pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    return [[first for first, _ in pairs], [second for _, second in pairs]]


def unpark_matched(after: int, limit: int = 5000) -> tuple[int, int]:
    """Lets go what a race or a crash left behind in the car park: rows whose saga, key's owner or lane is there.

    Looks at `limit` rows after an event's pk; returns (how many went, the pk to go on after, 0 for from the start).
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT max(event), count(*) FROM"
            " (SELECT event FROM sagas_parked WHERE event > %s ORDER BY event LIMIT %s) AS page",
            [after, limit],
        )
        last, count = cursor.fetchone()
    if not count:
        return 0, 0
    moved = unpark(_MATCHED, [after, last])
    return moved, last if count == limit else 0


# OFFSET 0 keeps the planner from hashing all sagas instead of looking each up.
_MATCHED = """event IN (
    SELECT p.event FROM sagas_parked p
    WHERE p.event > %s AND p.event <= %s AND p.reason <> 'set_aside' AND (
        (p.reason <> 'no_entity' AND p.key <> '' AND EXISTS (
            SELECT 1 FROM sagas_saga s WHERE s.key = p.key AND s.saga_type = p.stream OFFSET 0))
        OR (p.key <> '' AND EXISTS (
            SELECT 1 FROM sagas_attachment a
            WHERE a.key = p.key AND a.stream = p.stream AND (p.reason <> 'no_entity' OR a.lane IS NOT NULL)))
        OR (p.reason <> 'no_entity' AND p.by_entity AND (
            SELECT count(*) FROM (
                SELECT 1 FROM (SELECT saga_id FROM sagas_lane WHERE entity = p.entity AND known OFFSET 0) AS l
                CROSS JOIN LATERAL (SELECT saga_type FROM sagas_saga WHERE id = l.saga_id OFFSET 0) AS s
                WHERE s.saga_type = p.stream LIMIT 2
            ) AS two) = 1)
    )
)"""


# --- sagas ----------------------------------------------------------------------------------------------------------


def load_sagas(keys: Sequence[tuple[str, str]]) -> dict[str, SagaRow]:
    """Stored sagas by routing key, of (saga type, key)."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT s.* FROM unnest(%s::text[], %s::text[]) AS w(saga_type, key)
            CROSS JOIN LATERAL (
                SELECT id::text, saga_type, version, failure_scope, key, state::text, events_count,
                       set_aside_at IS NOT NULL, last_event_at, {", ".join(TALLY_COLUMNS)}
                FROM sagas_saga WHERE key = w.key AND saga_type = w.saga_type OFFSET 0
            ) AS s
            """,  # noqa: S608
            [[saga_type for saga_type, _ in keys], [key for _, key in keys]],
        )
        sagas = [_saga(row) for row in cursor.fetchall()]
    return {row.routing_key: row for row in sagas}


def attached(keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str | None]]:
    """(stream, key) → (routing key of the saga that a person attached it to, lane)."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT a.stream, a.key, s.saga_type || ':' || s.key, a.lane
            FROM unnest(%s::text[], %s::text[]) AS w(stream, key)
            JOIN sagas_attachment a ON a.key = w.key AND a.stream = w.stream
            JOIN sagas_saga s ON s.id = a.saga_id
            """,
            [[stream for stream, _ in keys], [key for _, key in keys]],
        )
        return {(stream, key): (routing_key, lane) for stream, key, routing_key, lane in cursor.fetchall()}


def owners(entities: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """(saga type, entity) → [(routing key, saga id)] of the sagas that have a lane of it. Two are enough to know.

    Lanes first, then each lane's saga by its id: a planner without statistics would walk over all sagas of the type.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT w.saga_type, w.entity, s.routing_key, s.id
            FROM unnest(%s::text[], %s::text[]) AS w(saga_type, entity)
            CROSS JOIN LATERAL (
                SELECT s.saga_type || ':' || s.key AS routing_key, s.id::text
                FROM (SELECT saga_id FROM sagas_lane WHERE entity = w.entity AND known OFFSET 0) AS l
                CROSS JOIN LATERAL (
                    SELECT id, saga_type, key FROM sagas_saga WHERE id = l.saga_id OFFSET 0
                ) AS s
                WHERE s.saga_type = w.saga_type LIMIT 2
            ) AS s
            """,
            [[saga_type for saga_type, _ in entities], [entity for _, entity in entities]],
        )
        found: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for saga_type, entity, routing_key, saga_id in cursor.fetchall():
            found.setdefault((saga_type, entity), []).append((routing_key, saga_id))
    return found


def load_lanes(identities: Mapping[str, SagaIdentity], wanted: Sequence[tuple[str, str]]) -> dict[str, StoredLanes]:
    """What is stored of the wanted (saga id, entity), by saga id.

    LATERAL … OFFSET 0 keeps the planner at one index probe a lane, also at its stock costs, where a plain join with
    unnest reads the whole table.
    """
    ids, entities = [saga_id for saga_id, _ in wanted], [entity for _, entity in wanted]
    source = (
        "unnest(%s::uuid[], %s::text[]) AS w(saga_id, entity) CROSS JOIN LATERAL"
        " (SELECT * FROM {table} t WHERE t.saga_id = w.saga_id AND t.entity = w.entity OFFSET 0) AS t"
    )
    return _lanes(identities, source, [ids, entities])


def load_all_lanes(identities: Mapping[str, SagaIdentity]) -> dict[str, StoredLanes]:
    """All that is stored of the lanes of these sagas, for facts that speak for all of them."""
    source = (
        "unnest(%s::uuid[]) AS w(saga_id) CROSS JOIN LATERAL"
        " (SELECT * FROM {table} t WHERE t.saga_id = w.saga_id OFFSET 0) AS t"
    )
    return _lanes(identities, source, [list(identities)])


def _lanes(identities: Mapping[str, SagaIdentity], source: str, parameters: list[Any]) -> dict[str, StoredLanes]:
    found = {saga_id: StoredLanes({}, {}, {}) for saga_id in identities}
    steps: dict[tuple[str, str], tuple[dict[StepKey, StoredRow], dict[StepKey, StepFacts]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.saga_id::text, t.entity, t.id, t.step_type, t.service, t.status, t.rank, t.occurred_at,"  # noqa: S608
            " t.event_id, t.event_type, t.error_message, t.metadata::text, t.compensation_timestamp"
            f" FROM {source.format(table='sagas_step')}",
            parameters,
        )
        for row in cursor.fetchall():
            key, lane = row[3:5], row[:2]
            stored_steps, facts = steps.get(lane) or steps.setdefault(lane, ({}, {}))
            stored_steps[key] = StoredRow(row[2], row[5:] if row[11] is None else _with_metadata(row))
            if row[6]:
                facts[key] = StepFacts(row[6], row[7], row[8], row[9], row[10] or "")
        cursor.execute(
            "SELECT t.saga_id::text, t.entity, t.id, t.known, t.failed, t.outcome, t.opened_at, t.state::text"  # noqa: S608
            f" FROM {source.format(table='sagas_lane')}",
            parameters,
        )
        for saga_id, entity, pk, *shown, text in cursor.fetchall():
            stored, state = found[saga_id], orjson.loads(text)
            stored.steps[entity], facts = steps.pop((saga_id, entity), ({}, {}))
            stored.rows[entity] = StoredRow(pk, (*shown, state))
            stored.lanes[entity] = lane_from(entity, shown[0], state, facts)
    for (saga_id, entity), (stored_steps, facts) in steps.items():
        found[saga_id].steps[entity] = stored_steps
        found[saga_id].lanes[entity] = LaneState(entity, steps=facts)
    return found


def _with_metadata(row: Sequence[Any]) -> tuple[Any, ...]:
    return (*row[5:11], orjson.loads(row[11]), row[12])


# --- writing --------------------------------------------------------------------------------------------------------


def insert_sagas(rows: Sequence[Mapping[str, Any]]) -> None:
    """Plain inserts: were a lock ever broken, the unique key must raise, not overwrite."""
    _insert(SagaLog, (*SAGA_BIRTH, *SAGA_COUNTS, *SAGA_WORDS), rows)


def update_sagas(rows: Sequence[Mapping[str, Any]]) -> None:
    _update(SagaLog, (*SAGA_COUNTS, *SAGA_WORDS), rows)


def update_counts(rows: Sequence[Mapping[str, Any]], unmoved: Collection[str] = ()) -> None:
    """The same of sagas of which events said nothing that their counts do not show.

    unmoved: the columns of the tally that are as stored in each of the rows; they are not sent.
    """
    _update(SagaLog, tuple(name for name in SAGA_COUNTS if name not in unmoved), rows)


def insert_lanes(rows: Sequence[Mapping[str, Any]]) -> None:
    _insert(LaneRow, ("saga", "entity", *LANE_CHANGES), rows)


def update_lanes(rows: Sequence[Mapping[str, Any]]) -> None:
    _update(LaneRow, LANE_CHANGES, rows)


def insert_steps(rows: Sequence[Mapping[str, Any]]) -> None:
    _insert(SagaStep, ("saga", "entity", "step_type", "service", *STEP_CHANGES), rows)


def update_steps(rows: Sequence[Mapping[str, Any]]) -> None:
    _update(SagaStep, STEP_CHANGES, rows)


def log_applied(rows: Sequence[Mapping[str, Any]]) -> None:
    """Takes events off the queue and writes them into their sagas' logs, in one statement: by pk, never by key.

    Marking by key would lose the event that came between the read and the mark.
    """
    columns = _columns(SagaEvent, "event", "saga", "seq", "lane", "applied_at", "note")
    names = sql.names(columns)
    _for_each(
        f"""
        WITH r AS MATERIALIZED (SELECT r.* FROM {{rows}}),
        gone AS (DELETE FROM bridge_pending WHERE id IN (SELECT event FROM r))
        INSERT INTO sagas_saga_event ({names}) SELECT {names} FROM r
        """,  # noqa: S608
        columns,
        rows,
    )


def insert_keys(rows: Sequence[Mapping[str, Any]]) -> None:
    """Remembers under which other keys events came to a saga."""
    _for_each(
        "INSERT INTO sagas_saga_key (stream, key, saga_id)"
        " SELECT r.stream, r.key, r.saga_id FROM {rows} ON CONFLICT DO NOTHING",
        {"stream": "text", "key": "text", "saga_id": "uuid"},
        rows,
    )


def read_log(saga_id: str, content_types: Sequence[str]) -> list[EventRow]:
    """A saga's whole log, in the order in which it took its events."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT {_EVENT_COLUMNS} FROM (
                SELECT event AS id, '' AS key, lane, seq FROM sagas_saga_event WHERE saga_id = %s
            ) p JOIN bridge_event e ON e.id = p.id ORDER BY p.seq
            """,  # noqa: S608
            [list(content_types), saga_id],
        )
        return [_event(row) for row in cursor.fetchall()]


_EVENT_COLUMNS = """p.id, p.key, p.lane, e.source, e.event_id, e.stream, e.type, e.key, e.entity, e.correlation_id,
    e.occurred_at, CASE WHEN e.source <> 'pulsar' OR e.type = ANY(%s) THEN e.payload::text END"""


def _event(row: Sequence[Any]) -> EventRow:
    content = row[11]
    return EventRow._make((*row[:11], {} if content is None else orjson.loads(content)))


def _saga(row: Sequence[Any]) -> SagaRow:
    return SagaRow._make(
        (*row[:5], saga_from(orjson.loads(row[5]), SagaCounts(*row[9:]), row[8]), row[6], row[7], None)
    )


def _insert(model: Any, fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    columns = _columns(model, *fields)
    names = sql.names(columns)
    table = model._meta.db_table
    _for_each(f"INSERT INTO {table} ({names}) SELECT {sql.names(columns, 'r')} FROM {{rows}}", columns, rows)  # noqa: S608


def _update(model: Any, fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    columns = _columns(model, *fields)
    changes = ", ".join(f'"{name}" = r."{name}"' for name in columns)
    _for_each(
        f"UPDATE {model._meta.db_table} t SET {changes} FROM {{rows}} WHERE t.id = r.id",  # noqa: S608
        {**_columns(model, "id"), **columns},
        rows,
    )


@cache
def _columns(model: Any, *fields: str) -> dict[str, str]:
    return sql.columns_of(model, *fields)


def _for_each(statement: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(statement.format(rows=sql.recordset(columns)), sql.dump(columns, rows))
