"""The one door: facts become rows of the event log, each exactly once, together with the word that they wait."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import orjson
from django.db import connection
from django.utils import timezone

from bridge import sql
from bridge.models import Event, Source

_EVENT_FIELDS = (
    "source",
    "event_id",
    "stream",
    "type",
    "key",
    "entity",
    "correlation_id",
    "occurred_at",
    "received_at",
    "topic",
    "message_id",
    "note",
    "payload",
    "body_hash",
)


class NewFact(NamedTuple):
    """A fact of our own, to be appended. `routing_key` says which saga applies it (see `routing_key`)."""

    source: Source | str
    event_id: str
    stream: str
    type: str
    key: str
    entity: str
    occurred_at: datetime
    payload: Mapping[str, Any]
    routing_key: str
    lane: str | None = None


def routing_key(stream: str, key: str, entity: str = "") -> str:
    """What an event waits under: its saga's key, or, where it names none, its entity's."""
    return f"{stream}:{key}" if key else f"{stream}:@{entity}"


def append(facts: Sequence[NewFact]) -> list[int]:
    """Add facts of our own to the log, and have them applied. In the caller's transaction.

    May be repeated: a fact whose (source, event_id) is known is left as it is. Returns the pks of the new ones.
    """
    now = timezone.now()
    return [pk for pk, _ in _insert(_row_of(fact, now) for fact in facts)]


def content_hash(event_type: str, canonical: bytes) -> bytes:
    """What tells a repeat from another event under the same id. `canonical`: the body as JSON with its keys sorted."""
    return hashlib.blake2b(canonical, digest_size=16, key=event_type.encode()[:64]).digest()


def canonical_json(payload: Mapping[str, Any]) -> bytes:
    return orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)


def _row_of(fact: NewFact, now: datetime) -> dict[str, Any]:
    content = canonical_json(fact.payload)
    return {
        **fact._asdict(),
        "correlation_id": "",
        "received_at": now,
        "topic": "",
        "message_id": "",
        "note": "",
        "payload": orjson.Fragment(content),
        "body_hash": content_hash(fact.type, content),
    }


def _insert(rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """Insert what is new as Event and Pending in one statement; returns (pk, event id) of the new ones."""
    # Two writers that insert the same ids in different orders deadlock, ON CONFLICT or not.
    ordered = sorted(rows, key=lambda row: row["event_id"])
    if not ordered:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_insert_sql(), [sql.dump(ordered)])
        inserted: list[tuple[int, str]] = cursor.fetchall()
    return inserted


@cache
def _insert_sql() -> str:
    columns = sql.columns_of(Event, *_EVENT_FIELDS)
    names = sql.names(columns)
    return f"""
        WITH r AS MATERIALIZED (
            SELECT * FROM {sql.recordset({**columns, "routing_key": "text", "lane": "text"})}
        ), event AS (
            INSERT INTO bridge_event ({names})
            SELECT {names} FROM r
            ON CONFLICT (source, event_id) DO NOTHING
            RETURNING id, source, event_id
        ), pending AS (
            INSERT INTO bridge_pending (id, key, lane)
            SELECT event.id, r.routing_key, r.lane FROM event JOIN r USING (source, event_id)
        )
        SELECT id, event_id FROM event ORDER BY id
    """  # noqa: S608 (the names are the model's columns)
