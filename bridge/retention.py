"""Retention at the edge: the one way by which events leave the log, and what is remembered of them.

Who calls says what leaves (`sagas.retention`: whole ended sagas, and what a person dismissed long ago). The keys of
what came from Pulsar live on, so that a message that is delivered again is a duplicate, not news.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from bridge import sql
from bridge.models import QuarantineStatus, Source

_ID = {"id": "text"}

# Nothing leaves that occurred less than this long ago: what is younger need not be looked up. Half of the shortest
# retention, so that no clock's error counts.
YOUNGEST = timedelta(hours=12)
# Rows of one transaction, where rows leave by age alone.
PAGE = 5000


@contextmanager
def deleting() -> Iterator[None]:
    """Let rows be deleted from append-only tables inside, in the caller's transaction. May be nested.

    An error inside rolls the transaction or savepoint back, and with it the permission.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(current_setting('bridge.retention', true), ''), set_config('bridge.retention', 'on', true)"
        )
        before = cursor.fetchone()[0]
        yield
        cursor.execute("SELECT set_config('bridge.retention', %s, true)", [before])


def forget(events: Sequence[int], now: datetime) -> int:
    """Delete events with the notes of their repeats, and keep their keys; returns how many there were.

    In the caller's transaction, in which all that speaks of them leaves too. May be repeated. Raises ValueError, for
    the transaction to be rolled back, if a message among them occurred less than YOUNGEST ago.
    """
    if not events:
        return 0
    with deleting(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM bridge_duplicate WHERE event = ANY(%s)", [list(events)])
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
            raise ValueError("an event that may be delivered again unnoticed must not be pruned")
    return int(count)


def is_old(occurred_at: datetime, now: datetime) -> bool:
    """Whether an event of this time can have been pruned by now."""
    return now - occurred_at > YOUNGEST


def remembered(event_ids: Collection[str]) -> dict[str, bytes]:
    """Which of these ids of messages belong to events that were pruned: id → hash of the content.

    Sees what is committed when it is called: to be certain that none of them slips in while it is being pruned, call it
    *after* they were inserted, in the same transaction. Costs nothing while nothing was ever pruned.
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
    """Delete keys of events that were pruned before a time, at most PAGE of them; returns how many. Own transaction."""
    return _delete_page(
        "bridge_pruned_event",
        "SELECT id FROM bridge_pruned_event WHERE pruned_at < %s ORDER BY pruned_at LIMIT %s FOR UPDATE SKIP LOCKED",
        [before, PAGE],
    )


def forget_messages(before: datetime) -> int:
    """Delete quarantined messages that were decided on before a time, at most PAGE; returns how many. Own transaction.

    One that is open never leaves. With them leave the counts of messages beyond the quota of hours that long ago, in
    which nothing is open.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FORGET_COUNTS, [before, QuarantineStatus.OPEN.value])
    return _delete_page("bridge_quarantined", f"{_DECIDED} LIMIT %s FOR UPDATE SKIP LOCKED", [*_decided(before), PAGE])


def count_messages(before: datetime) -> int:
    """How many messages `forget_messages` would delete in all."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({_DECIDED}) AS decided", _decided(before))  # noqa: S608 (our own words)
        return int(cursor.fetchone()[0])


_FORGET_COUNTS = """
    DELETE FROM bridge_quarantine_count c
    WHERE c.hour < %s - interval '1 hour' AND NOT EXISTS (
        SELECT FROM bridge_quarantined q
        WHERE q.status = %s AND q.topic = c.topic
            AND q.received_at >= c.hour AND q.received_at < c.hour + interval '1 hour'
    )
"""

# Nothing is decided on before it was received: that finds them by index.
_DECIDED = "SELECT id FROM bridge_quarantined WHERE status = ANY(%s) AND received_at < %s AND decided_at < %s"


def _decided(before: datetime) -> list[Any]:
    return [[QuarantineStatus.REQUEUED.value, QuarantineStatus.DISMISSED.value], before, before]


def _delete_page(table: str, chosen: str, parameters: list[Any]) -> int:
    with transaction.atomic(), deleting(), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE id IN ({chosen})", parameters)  # noqa: S608 (our own words)
        return int(cursor.rowcount)
