"""The SQL statements of applying, each in a named function. All run in the caller's transaction.

They convert between rows and engine state. Values are passed as one array per column (`bridge.sql.recordset`) and
returned as tuples: reading ORM objects costs five times as much, and the ORM's upserts halve the throughput. Column
types are taken from the models.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

import orjson
from django.db import connection

from bridge import routing, sql
from sagas.definitions import registry
from sagas.engine.change import LaneValues
from sagas.engine.decide import SagaIdentity
from sagas.engine.definition import Event
from sagas.engine.facts import WIRE, Fact
from sagas.engine.state import LaneState, SagaCounts, SagaState, StepFacts, StepKey, lane_from, saga_from
from sagas.models import Lane as LaneRow
from sagas.models import Parked, ParkedReason, SagaEvent, SagaLog, SagaStep

# The column of each counter of `SagaCounts`.
COUNT_COLUMNS = {
    "known": "lanes_known",
    "open": "lanes_open",
    "processed": "lanes_processed",
    "undoing": "lanes_undoing",
    "undone": "lanes_undone",
    "settled": "lanes_settled",
    "on_the_way": "commands_on_the_way",
    "exhausted": "commands_exhausted",
    "confirmed": "commands_confirmed",
    "given_up": "commands_given_up",
    "steps": "steps_count",
    "failed_steps": "failed_steps_count",
}
SAGA_BIRTH = ("id", "saga_type", "version", "failure_scope", "key", "created_at")
# The columns that nearly every event changes, and those that few events change: a narrow update costs a third of a
# full one.
SAGA_COUNTS = ("status", "end_time", "last_event_at", *COUNT_COLUMNS.values(), "events_count", "updated_at")
SAGA_DETAILS = ("correlation_id", "start_time", "error_message", "state", "set_aside_at", "set_aside_error")
LANE_CHANGES = LaneValues._fields
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


# The share of the server's lock table that the concurrent pages of this host may fill with their keys. The rest is for
# tables, other hosts and other databases of the server. The table holds about twice what its settings promise.
LOCKS_SHARE = 0.75

# How many deleted rows of the queue are tolerated before a vacuum: some 2 MB.
DEAD_ROWS = 20_000


class PendingRow(NamedTuple):
    """A waiting event with its routing key."""

    id: int
    key: str
    lane: str | None


class EventRow(NamedTuple):
    """An event as applying reads it. `key` is the key that the event names, `routing_key` the key it waits under.

    pk: the id under which its saga type knows it: that of the event, or of a reading (`bridge.models.EventReading`),
    whose `stream`, `key` and `entity` these are.
    """

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
        """Return its type as the newest definition declares it; None for our own facts and unknown types."""
        return registry.event(self.stream, self.type) if self.source == WIRE else None

    def found_by_entity(self) -> bool:
        """Return whether it may be matched by its entity: its type needs no key, or may carry a key of the service.

        Earlier releases also stored events without the key that their type needs: those are for people to decide on.
        """
        spec = self.spec
        if self.key:
            return spec is not None and spec.own_key
        return spec is None or not spec.needs_key

    def fact(self) -> Fact:
        """Return the event as the engine reads it."""
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
    created_at: datetime | None = None  # only of a saga that is not stored yet

    @property
    def routing_key(self) -> str:
        return routing.routing_key(self.saga_type, self.key)


class StoredLane(NamedTuple):
    """A stored lane."""

    pk: int
    values: LaneValues


class StoredStep(NamedTuple):
    """A stored step: its pk, and its values in order of STEP_CHANGES."""

    pk: int
    values: tuple[Any, ...]


class StoredLanes(NamedTuple):
    """The stored lanes of one saga, or some of them."""

    lanes: dict[str, LaneState]
    rows: dict[str, StoredLane]  # by entity
    steps: dict[str, dict[StepKey, StoredStep]]  # by entity


NOTHING_STORED = StoredLanes({}, {}, {})  # shared: must not be changed


def count_columns(counts: SagaCounts) -> dict[str, int]:
    """Return the counters of a saga by their columns."""
    return dict(zip(COUNT_COLUMNS.values(), _values_of_counts(counts), strict=True))


_values_of_counts = attrgetter(*COUNT_COLUMNS)


def counts_of(row: SagaLog) -> SagaCounts:
    """Return the counters of a saga from its row."""
    return SagaCounts(**{name: getattr(row, column) for name, column in COUNT_COLUMNS.items()})


def content_types() -> list[str]:
    """Return the event types that the engine reads with their body, in any version of any saga type."""
    return sorted({event.type for item in registry.all_definitions() for event in item.events if event.reads_content})


# --- the queue ------------------------------------------------------------------------------------------------------


def claim(after: int, limit: int) -> list[PendingRow]:
    """Return the next rows of the queue after an id. Takes no lock: the rows are claimed by locking their keys."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, key, lane FROM bridge_pending WHERE id > %s ORDER BY id LIMIT %s",
            [after, limit],
        )
        return [PendingRow(*row) for row in cursor.fetchall()]


def pending_of(keys: Sequence[str]) -> list[int]:
    """Return the ids of the events that wait under these routing keys. Reads the whole queue: it is small by design."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM bridge_pending WHERE key = ANY(%s) ORDER BY id", [list(keys)])
        return [row[0] for row in cursor.fetchall()]


def most_keys(slots: int) -> int:
    """Return how many keys a page may lock if `slots` pages are applied at once.

    If the lock table is full, every transaction of the server that needs another lock fails.
    """
    return max(1, int(_lock_table() * LOCKS_SHARE) // (slots * _LockShare.factor))


def take_fewer_locks() -> None:
    """Halve the number of locks in this process from now on: other hosts or other programs also fill the lock table."""
    _LockShare.factor = min(_LockShare.factor * 2, _LockShare.MOST)


class _LockShare:
    """The factor by which this process takes fewer locks than its share. A process ends after a thousand tasks."""

    MOST = 64
    factor = 1


@cache
def _lock_table() -> int:
    """Return how many locks the server guarantees; read once per process, as changing it takes a server restart."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('max_locks_per_transaction')::bigint"
            " * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)"
        )
        return int(cursor.fetchone()[0])


def try_lock(keys: Iterable[str]) -> set[str]:
    """Lock the keys that can be locked without waiting, until the transaction ends; return these keys.

    The keys are a parameter: in a filter over a subquery the planner may push the volatile function down and take
    a lock for every row it reads.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT k FROM unnest(%s::text[]) AS k WHERE pg_try_advisory_xact_lock(hashtextextended(k, 0))",
            [sorted(set(keys))],
        )
        return {row[0] for row in cursor.fetchall()}


def acquire_worker_slot(host: str, slots: int) -> datetime | None:
    """Take one of the `slots` worker slots of a host until the transaction ends; return None if none is free.

    Returns the database's time, which the page needs too: asking for it separately would be one more statement a page.
    Never waits.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT clock_timestamp() FROM unnest(%s::text[]) AS turn"
            " WHERE pg_try_advisory_xact_lock(hashtextextended(turn, 0)) LIMIT 1",
            [[f"apply on {host} {number}" for number in range(slots)]],
        )
        row = cursor.fetchone()
        return row[0] if row else None


def lock(key: str) -> None:
    """Wait for a routing key's lock and hold it until the transaction ends. For decisions: one key at a time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])


def vacuum_queue() -> bool:
    """Vacuum the queue's table if it has many dead rows, so that their space is reused; return whether it did.

    autovacuum checks at most once a minute (autovacuum_naptime), and at full load the table's file would grow to some
    60 MB by then. Returning space to the disk is left to autovacuum: that needs an exclusive lock. VACUUM cannot run in
    a transaction; called in one, this does nothing.
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
    """Return the events among `ids` that still wait, in order of their ids.

    Must be a separate statement after the locks were taken: a statement's snapshot is older than the locks it takes.
    Bodies are read only of `content_types` and of our own facts.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_EVENT_COLUMNS.format(of='e')} FROM bridge_pending p JOIN bridge_event e ON e.id = p.id"
            " WHERE p.id = ANY(%s) ORDER BY p.id",
            [list(content_types), list(ids)],
        )
        events = [_event(row) for row in cursor.fetchall()]
        if len(events) == len(ids):
            return events
        # The others have left the queue meanwhile, or they are readings of events that several saga types read.
        others = set(ids).difference([event.pk for event in events])
        cursor.execute(
            f"SELECT {_READ_COLUMNS} FROM bridge_pending p {_READ_EVENTS} WHERE p.id = ANY(%s)",
            [list(content_types), list(others)],
        )
        return sorted([*events, *map(_event, cursor.fetchall())], key=attrgetter("pk"))


def take_parked(keys: Sequence[tuple[str, str]], content_types: Sequence[str]) -> list[EventRow]:
    """Delete the parked rows of these (stream, key) and return their events, for the sagas that start here."""
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
            SELECT {_READ_COLUMNS} FROM gone p {_READ_EVENTS} ORDER BY p.id
            """,
            [[stream for stream, _ in keys], [key for _, key in keys], list(content_types)],
        )
        return [_event(row) for row in cursor.fetchall()]


def reroute(moves: Sequence[tuple[int, str, str | None]]) -> None:
    """Move waiting events to another routing key: (event, key, lane)."""
    _for_each(
        "UPDATE bridge_pending p SET key = r.key, lane = r.lane FROM {rows} WHERE p.id = r.id",
        {"id": "bigint", "key": "text", "lane": "text"},
        [{"id": pk, "key": key, "lane": lane} for pk, key, lane in moves],
    )


def parked_row(event: EventRow, reason: ParkedReason, suggestion: str | None, now: datetime) -> dict[str, Any]:
    """Return the row of an event that no saga can take now. suggestion: the id of the saga that it may belong to."""
    return {
        "event": event.pk,
        "stream": event.stream,
        "key": event.key,
        "entity": event.entity,
        "by_entity": bool(event.entity) and event.found_by_entity(),
        "reason": reason.value,
        "since": now,
        "suggestion": suggestion,
    }


def park(rows: Sequence[Mapping[str, Any]]) -> None:
    """Move events from the queue to the table of parked events. An event that is already parked is not changed."""
    columns = _columns(Parked, "event", "stream", "key", "entity", "by_entity", "reason", "since", "suggestion")
    names = sql.names(columns)
    _for_each(
        f"""
        WITH r AS MATERIALIZED (SELECT r.* FROM {{rows}}),
        gone AS (DELETE FROM bridge_pending WHERE id IN (SELECT event FROM r))
        INSERT INTO sagas_parked ({names}) SELECT {names} FROM r ON CONFLICT (event) DO NOTHING
        """,
        columns,
        rows,
    )


def unpark(where: str, parameters: Sequence[Any]) -> int:
    """Move parked events back to the queue, under their own routing key; return how many.

    One statement, so that a saga that starts and takes the same rows cannot get them too.
    """
    with connection.cursor() as cursor:
        cursor.execute(_UNPARK.format(where=where), list(parameters))
        return int(cursor.rowcount)


def unparked(where: str, parameters: Sequence[Any]) -> list[str]:
    """Move parked events back to the queue as `unpark` does; return the routing key of each event."""
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
    """Requeue parked events of entities whose lane has just opened, by (stream, entity); return how many."""
    return unpark(_OF_ENTITIES, _columns_of(entities))


def unparked_entities(entities: Sequence[tuple[str, str]]) -> list[str]:
    """Requeue the same events; return the routing key of each event, so that the caller can apply them at once."""
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
    """Requeue parked events that a race or a crash left behind: their saga, attachment or lane exists.

    Checks `limit` rows after an event's pk; returns (how many were requeued, the pk to continue after, 0 for the
    start).
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


# OFFSET 0 prevents the planner from hashing all sagas instead of looking up each one.
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
    """Return the stored sagas of these (saga type, key), by routing key."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT s.* FROM unnest(%s::text[], %s::text[]) AS w(saga_type, key)
            CROSS JOIN LATERAL (
                SELECT id::text, saga_type, version, failure_scope, key, state::text, events_count,
                       set_aside_at IS NOT NULL, last_event_at, {", ".join(COUNT_COLUMNS.values())}
                FROM sagas_saga WHERE key = w.key AND saga_type = w.saga_type OFFSET 0
            ) AS s
            """,
            [[saga_type for saga_type, _ in keys], [key for _, key in keys]],
        )
        sagas = [_saga(row) for row in cursor.fetchall()]
    return {row.routing_key: row for row in sagas}


def attached(keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Return {(stream, key): (routing key of the saga that a person attached it to, lane)}."""
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
    """Return {(saga type, entity): [(routing key, saga id)]} of the sagas that have a lane of it, at most two each.

    Lanes first, then each lane's saga by its id: a planner without statistics would read all sagas of the type.
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
    """Return the stored lanes of the wanted (saga id, entity), by saga id.

    LATERAL … OFFSET 0 makes the planner use one index probe per lane, even at its default costs, at which a plain join
    with unnest reads the whole table.
    """
    ids, entities = [saga_id for saga_id, _ in wanted], [entity for _, entity in wanted]
    source = (
        "unnest(%s::uuid[], %s::text[]) AS w(saga_id, entity) CROSS JOIN LATERAL"
        " (SELECT * FROM {table} t WHERE t.saga_id = w.saga_id AND t.entity = w.entity OFFSET 0) AS t"
    )
    return _lanes(identities, source, [ids, entities])


def load_all_lanes(identities: Mapping[str, SagaIdentity]) -> dict[str, StoredLanes]:
    """Return all stored lanes of these sagas, for facts that concern all lanes."""
    source = (
        "unnest(%s::uuid[]) AS w(saga_id) CROSS JOIN LATERAL"
        " (SELECT * FROM {table} t WHERE t.saga_id = w.saga_id OFFSET 0) AS t"
    )
    return _lanes(identities, source, [list(identities)])


def _lanes(identities: Mapping[str, SagaIdentity], source: str, parameters: list[Any]) -> dict[str, StoredLanes]:
    found = {saga_id: StoredLanes({}, {}, {}) for saga_id in identities}
    steps: dict[tuple[str, str], tuple[dict[StepKey, StoredStep], dict[StepKey, StepFacts]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.saga_id::text, t.entity, t.id, t.step_type, t.service, t.status, t.rank, t.occurred_at,"
            " t.event_id, t.event_type, t.error_message, t.metadata::text, t.compensation_timestamp"
            f" FROM {source.format(table='sagas_step')}",
            parameters,
        )
        for row in cursor.fetchall():
            key, lane = row[3:5], row[:2]
            stored_steps, facts = steps.get(lane) or steps.setdefault(lane, ({}, {}))
            stored_steps[key] = StoredStep(row[2], row[5:] if row[11] is None else _with_metadata(row))
            if row[6]:
                facts[key] = StepFacts(row[6], row[7], row[8], row[9], row[10] or "")
        cursor.execute(
            "SELECT t.saga_id::text, t.entity, t.id, t.known, t.failed, t.outcome, t.opened_at, t.state::text"
            f" FROM {source.format(table='sagas_lane')}",
            parameters,
        )
        for saga_id, entity, pk, known, failed, outcome, opened_at, text in cursor.fetchall():
            stored, state = found[saga_id], orjson.loads(text)
            stored.steps[entity], facts = steps.pop((saga_id, entity), ({}, {}))
            stored.rows[entity] = StoredLane(pk, LaneValues(known, failed, outcome, opened_at, state))
            stored.lanes[entity] = lane_from(entity, known, state, facts)
    for (saga_id, entity), (stored_steps, facts) in steps.items():
        found[saga_id].steps[entity] = stored_steps
        found[saga_id].lanes[entity] = LaneState(entity, steps=facts)
    return found


def _with_metadata(row: Sequence[Any]) -> tuple[Any, ...]:
    return (*row[5:11], orjson.loads(row[11]), row[12])


class QuietSaga(NamedTuple):
    """A saga of whose latest run all known lanes have ended, though its intake has not, and its greatest event."""

    id: str
    saga_type: str
    version: int
    key: str
    event_id: str
    occurred_at: datetime


def quiet_sagas(
    after: tuple[datetime, str] | None, before: datetime, limit: int
) -> tuple[list[QuietSaga], tuple[datetime, str] | None]:
    """Return those of a page of unfinished sagas that wait for nothing but the end of their intake.

    after: the place of the last page, or None for the first. before: they have not changed since this time. Returns the
    place of this page too; None if it was the last one.
    """
    with connection.cursor() as cursor:
        since, last = after or (None, None)
        cursor.execute(_QUIET, {"since": since, "last": last, "limit": limit, "before": before})
        rows = cursor.fetchall()
    quiet = [QuietSaga._make(row[2:]) for row in rows if row[6] is not None]
    return quiet, (rows[-1][0], rows[-1][1]) if len(rows) == limit else None


# The index on the status gives the page; only its quiet sagas are looked up in the log. `past` are the counters of
# earlier runs by their names in SagaCounts, without those that are zero.
_QUIET = """
    WITH page AS MATERIALIZED (
        SELECT id, start_time, saga_type, version, key, state,
            set_aside_at IS NULL AND updated_at < %(before)s
            AND lanes_known > COALESCE((state->'past'->>'known')::int, 0)
            AND lanes_open = COALESCE((state->'past'->>'open')::int, 0)
            AND NOT state ?| array['intake_over', 'closed']
            AND (NOT state ? 'silent' OR state ? 'broken') AS quiet
        FROM sagas_saga
        WHERE status = 'STARTED'
          AND (%(since)s::timestamptz IS NULL OR (start_time, id) < (%(since)s::timestamptz, %(last)s::uuid))
        ORDER BY start_time DESC, id DESC LIMIT %(limit)s
    )
    SELECT p.start_time, p.id::text, p.id::text, p.saga_type, p.version, p.key, last.event_id, last.occurred_at
    FROM page p LEFT JOIN LATERAL (
        SELECT e.event_id, e.occurred_at FROM sagas_saga_event s
        LEFT JOIN LATERAL (SELECT event FROM bridge_event_reading WHERE id = s.event OFFSET 0) AS r ON true
        CROSS JOIN LATERAL (
            SELECT source, event_id, occurred_at FROM bridge_event WHERE id = COALESCE(r.event, s.event) OFFSET 0
        ) AS e
        WHERE s.saga_id = p.id AND e.source = 'pulsar'
          AND (NOT p.state ? 'began' OR e.occurred_at >= (p.state->>'began')::timestamptz)
        ORDER BY e.occurred_at DESC, e.event_id DESC LIMIT 1
    ) AS last ON p.quiet
    ORDER BY p.start_time DESC, p.id DESC
"""


# --- writing --------------------------------------------------------------------------------------------------------


def insert_sagas(rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert sagas. A plain INSERT: if a lock ever fails, the unique key must raise, not overwrite."""
    _insert(SagaLog, (*SAGA_BIRTH, *SAGA_COUNTS, *SAGA_DETAILS), rows)


def update_sagas(rows: Sequence[Mapping[str, Any]]) -> None:
    _update(SagaLog, (*SAGA_COUNTS, *SAGA_DETAILS), rows)


def update_versions(rows: Sequence[Mapping[str, Any]]) -> None:
    """Move sagas to another version of their definition."""
    _update(SagaLog, ("version",), rows)


def update_counts(rows: Sequence[Mapping[str, Any]], unmoved: Collection[str] = ()) -> None:
    """Update sagas of which only counts, status and times changed.

    unmoved: the count columns that are unchanged in all rows; they are not written.
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


def delete_steps(ids: Sequence[int]) -> None:
    """Delete steps that existed only because of commands that are no longer required."""
    if ids:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM sagas_step WHERE id = ANY(%s)", [list(ids)])


def log_applied(rows: Sequence[Mapping[str, Any]]) -> None:
    """Move events from the queue to their sagas' logs, in one statement: by pk, never by key.

    Deleting by key would lose an event that arrived after the read.
    """
    columns = _columns(SagaEvent, "event", "saga", "seq", "lane", "applied_at", "note")
    names = sql.names(columns)
    _for_each(
        f"""
        WITH r AS MATERIALIZED (SELECT r.* FROM {{rows}}),
        gone AS (DELETE FROM bridge_pending WHERE id IN (SELECT event FROM r))
        INSERT INTO sagas_saga_event ({names}) SELECT {names} FROM r
        """,
        columns,
        rows,
    )


def insert_keys(rows: Sequence[Mapping[str, Any]]) -> None:
    """Store under which other keys events were applied to a saga. May run twice."""
    _for_each(
        "INSERT INTO sagas_saga_key (stream, key, saga_id)"
        " SELECT r.stream, r.key, r.saga_id FROM {rows} ON CONFLICT DO NOTHING",
        {"stream": "text", "key": "text", "saga_id": "uuid"},
        rows,
    )


def read_log(saga_id: str, content_types: Sequence[str]) -> list[EventRow]:
    """Return a saga's whole log, in the order in which its events were applied."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT {_READ_COLUMNS} FROM (
                SELECT event AS id, '' AS key, lane, seq FROM sagas_saga_event WHERE saga_id = %s
            ) p {_READ_EVENTS} ORDER BY p.seq
            """,
            [list(content_types), saga_id],
        )
        return [_event(row) for row in cursor.fetchall()]


_EVENT_COLUMNS = """p.id, p.key, p.lane, e.source, e.event_id, {of}.stream, e.type, {of}.key, {of}.entity,
    e.correlation_id, e.occurred_at, CASE WHEN e.source <> 'pulsar' OR e.type = ANY(%s) THEN e.payload::text END"""

# The events of rows p whose ids are those of events or of readings: `read` has what the saga type reads. Probes by
# primary keys, whatever the planner assumes of a table that is empty where no event concerns two saga types.
_READ_COLUMNS = _EVENT_COLUMNS.format(of="read")
_READ_EVENTS = """
    LEFT JOIN LATERAL (
        SELECT event, stream, key, entity FROM bridge_event_reading WHERE id = p.id OFFSET 0
    ) AS r ON true
    CROSS JOIN LATERAL (SELECT * FROM bridge_event WHERE id = COALESCE(r.event, p.id) OFFSET 0) AS e
    CROSS JOIN LATERAL (
        SELECT COALESCE(r.stream, e.stream) AS stream, COALESCE(r.key, e.key) AS key,
               COALESCE(r.entity, e.entity) AS entity
    ) AS read"""


def _event(row: Sequence[Any]) -> EventRow:
    content = row[11]
    return EventRow._make((*row[:11], {} if content is None else orjson.loads(content)))


def _saga(row: Sequence[Any]) -> SagaRow:
    saga_id, saga_type, version, scope, key, state, events_count, set_aside, last_at, *numbers = row
    counts = SagaCounts(**dict(zip(COUNT_COLUMNS, numbers, strict=True)))
    saga = saga_from(orjson.loads(state), counts, last_at)
    return SagaRow(saga_id, saga_type, version, scope, key, saga, events_count, set_aside)


def _insert(model: Any, fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    columns = _columns(model, *fields)
    names = sql.names(columns)
    table = model._meta.db_table
    _for_each(f"INSERT INTO {table} ({names}) SELECT {sql.names(columns, 'r')} FROM {{rows}}", columns, rows)


def _update(model: Any, fields: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    columns = _columns(model, *fields)
    changes = ", ".join(f'"{name}" = r."{name}"' for name in columns)
    _for_each(
        f"UPDATE {model._meta.db_table} t SET {changes} FROM {{rows}} WHERE t.id = r.id",
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
