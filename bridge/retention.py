"""Delete old events and quarantined messages: the only code that removes events from the log.

The caller decides what is deleted (`sagas.retention`: whole ended sagas, and messages dismissed long ago). The keys of
events from Pulsar are kept, so that a message that is delivered again counts as a duplicate and not as a new event.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from bridge import sql
from bridge.models import QuarantineStatus, Source

_ID = {"id": "text"}

# Events younger than this are never pruned, so their ids need no lookup. Half of the shortest retention, so that errors
# of clocks do not matter.
YOUNGEST = timedelta(hours=12)
# Rows deleted in one transaction, where rows are deleted by age alone.
PAGE = 5000


@contextmanager
def deleting() -> Iterator[None]:
    """Allow deleting rows from append-only tables inside the block, in the caller's transaction. May be nested.

    An error inside rolls back the transaction or savepoint, and with it the permission.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(current_setting('bridge.retention', true), ''), set_config('bridge.retention', 'on', true)"
        )
        before = cursor.fetchone()[0]
        yield
        cursor.execute("SELECT set_config('bridge.retention', %s, true)", [before])


def forget(events: Sequence[int], now: datetime) -> int:
    """Delete events with their Duplicate rows and keep their keys; return how many events were deleted.

    Needs the caller's transaction, which must also delete everything that refers to them. May run twice. Raises
    ValueError, so that the transaction is rolled back, if an event from Pulsar occurred less than YOUNGEST ago.
    """
    if not events:
        return 0
    with deleting(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM bridge_duplicate WHERE event = ANY(%s)", [list(events)])
        cursor.execute(_FORGET_COUNTED, [list(events)])
        cursor.execute(
            """
            WITH gone AS (
                DELETE FROM bridge_event WHERE id = ANY(%(events)s) RETURNING source, event_id, body_hash, occurred_at
            ), kept AS (
                INSERT INTO bridge_pruned_event (id, body_hash, pruned_at)
                SELECT md5(event_id)::uuid, body_hash, %(now)s FROM gone WHERE source = %(pulsar)s
                ON CONFLICT (id) DO NOTHING
            )
            SELECT count(*), max(occurred_at) FILTER (WHERE source = %(pulsar)s) FROM gone
            """,
            {"events": list(events), "now": now, "pulsar": Source.PULSAR.value},
        )
        count, last = cursor.fetchone()
        if last is not None and not is_old(last, now):
            raise ValueError("an event this young must not be pruned: a redelivery would not be recognized")
    return int(count)


def is_old(occurred_at: datetime, now: datetime) -> bool:
    """Return whether an event of this time can have been pruned."""
    return now - occurred_at > YOUNGEST


def remembered(event_ids: Collection[str]) -> dict[str, bytes]:
    """Return which of these event ids belong to pruned events: id → hash of the content.

    Reads what is committed when it is called: to be certain that none of them is inserted while it is being pruned,
    call it *after* the insert, in the same transaction. Costs nothing as long as nothing was ever pruned.
    """
    if not event_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT r.id, p.body_hash FROM {sql.recordset(_ID)}
            CROSS JOIN LATERAL (
                SELECT body_hash FROM bridge_pruned_event WHERE id = md5(r.id)::uuid OFFSET 0
            ) AS p
            WHERE EXISTS (SELECT FROM bridge_pruned_event)
            """,  # noqa: S608 (constants of this module)
            sql.dump(_ID, ({"id": event_id} for event_id in event_ids)),
        )
        return {event_id: bytes(body_hash) for event_id, body_hash in cursor.fetchall()}


def forget_keys(before: datetime) -> int:
    """Delete the keys of events that were pruned before a time, at most PAGE; return how many. Own transaction."""
    return _delete_page(
        "bridge_pruned_event",
        "SELECT id FROM bridge_pruned_event WHERE pruned_at < %s ORDER BY pruned_at LIMIT %s FOR UPDATE SKIP LOCKED",
        [before, PAGE],
    )


def forget_messages(before: datetime) -> int:
    """Delete quarantined messages that were decided on before a time, at most PAGE; return how many. Own transaction.

    An open message is never deleted. Also deletes the counts of messages beyond the quota for hours that long ago in
    which no message is open.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FORGET_COUNTS, [before, QuarantineStatus.OPEN.value])
    return _delete_page("bridge_quarantined", f"{_DECIDED} LIMIT %s FOR UPDATE SKIP LOCKED", [*_decided(before), PAGE])


def count_messages(before: datetime) -> int:
    """Return how many messages `forget_messages` would delete in all."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({_DECIDED}) AS decided", _decided(before))  # noqa: S608 (constants of this module)
        return int(cursor.fetchone()[0])


# Counted events belong to stored ones of the same type, key and entity, and are deleted with them.
_FORGET_COUNTED = """
    DELETE FROM bridge_collapsed_events c USING bridge_event e
    WHERE e.id = ANY(%s)
        AND c.stream = e.stream AND c.key = e.key AND c.entity = e.entity AND c.type = e.type
"""

_FORGET_COUNTS = """
    DELETE FROM bridge_quarantine_count c
    WHERE c.hour < %s - interval '1 hour' AND NOT EXISTS (
        SELECT FROM bridge_quarantined q
        WHERE q.status = %s AND q.topic = c.topic
            AND q.received_at >= c.hour AND q.received_at < c.hour + interval '1 hour'
    )
"""

# A message is received before it is decided on: the condition on received_at lets the query use the index.
_DECIDED = "SELECT id FROM bridge_quarantined WHERE status = ANY(%s) AND received_at < %s AND decided_at < %s"


def _decided(before: datetime) -> list[Any]:
    return [[QuarantineStatus.REQUEUED.value, QuarantineStatus.DISMISSED.value], before, before]


def _delete_page(table: str, chosen: str, parameters: list[Any]) -> int:
    with transaction.atomic(), deleting(), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE id IN ({chosen})", parameters)  # noqa: S608 (constants of this module)
        return int(cursor.rowcount)
