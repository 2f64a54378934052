"""Events that several saga types read: each has its own key and entity there, and an id of its own (`EventReading`).

The first reading has the id of the event, and an event that one saga type reads has no reading at all. So an id of an
event in the queue, among unmatched events or in a saga's log is nearly always that of the event itself: what is looked
up here costs one more query only for the others.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from bridge import routing, sql, statements
from bridge.envelope import Envelope
from bridge.models import Event, EventReading, Pending


def insert(new: Sequence[tuple[int, Envelope]]) -> None:
    """Store the readings of new events (pk, envelope), and enqueue those of further saga types. Caller's transaction.

    Only for events that several saga types read. No query without any.
    """
    rows = [
        {
            "event": pk,
            "own": number == 0,
            "routing_key": routing.routing_key(*reading),
            **reading._asdict(),
        }
        for pk, envelope in new
        for number, reading in enumerate(envelope.readings)
    ]
    if rows:
        statements.INSERT_READINGS.run(sql.dump(statements.READING, rows))


def events(ids: Collection[int], *, without: Sequence[str] = ("payload", "body_hash")) -> dict[int, Event]:
    """Return the events with these ids, or whose readings have them, by these ids. `without`: columns not read.

    Of a reading, `stream`, `key` and `entity` are its own; `pk` is always that of the event. One query, and one more if
    some are readings.
    """
    found = Event.objects.defer(*without).in_bulk(list(ids))
    missing = [id_ for id_ in ids if id_ not in found]
    if missing:
        rows = EventReading.objects.filter(id__in=missing).select_related("event")
        found |= {row.id: _as_read(row) for row in rows.defer(*(f"event__{name}" for name in without))}
    return found


def names(ids: Collection[int]) -> list[tuple[int, str, str]]:
    """Return (id, event id, type) of the events with these ids, or whose readings have them, in order of the ids.

    One query, and one more if some are readings.
    """
    columns = ("id", "event_id", "type")
    found: list[tuple[int, str, str]] = list(Event.objects.filter(id__in=ids).order_by().values_list(*columns))
    missing = set(ids).difference([row[0] for row in found])
    if missing:
        rows = EventReading.objects.filter(id__in=missing).order_by()
        found += rows.values_list("id", "event__event_id", "event__type")
    return sorted(found)


def further(types: Mapping[int, str]) -> dict[int, str]:
    """Return the ids of the further readings of events, each with the type. types: by the pks. One query, or none."""
    if not types:
        return {}
    rows = EventReading.objects.filter(event__in=list(types)).order_by().values_list("id", "event_id")
    return {id_: types[pk] for id_, pk in rows}


def _as_read(row: EventReading) -> Event:
    event = row.event
    event.stream, event.key, event.entity = row.stream, row.key, row.entity
    return event


def ids_of(found: QuerySet[Event]) -> QuerySet[Any, Any]:
    """Return the ids under which saga types know these events, as a query."""
    events = found.order_by()
    return events.values("id").union(EventReading.objects.filter(event__in=events.values("id")).values("id"))


def events_of(ids: QuerySet[Any, Any]) -> QuerySet[Any, Any]:
    """Return the pks of the events with these ids, or whose readings have them, as a query.

    ids: a query of one column, unordered. It also returns ids that are of a reading only: no event has them.
    """
    return ids.union(EventReading.objects.filter(id__in=ids).values("event"))


def oldest_received_at() -> datetime | None:
    """Return when the oldest event of the backlog was received; None if there is none. One query."""
    # Rows by their primary keys: PostgreSQL might plan an "id in (…)" as a scan of the whole event log.
    own = Event.objects.filter(id=OuterRef("id")).order_by().values("received_at")
    read = EventReading.objects.filter(id=OuterRef("id")).values("event__received_at")
    oldest = Pending.objects.order_by("id").annotate(at=Coalesce(Subquery(own), Subquery(read)))
    return oldest.values_list("at", flat=True).first()
