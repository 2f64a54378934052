"""Store the first few of many equal events and count the rest, so that an endless repetition does not fill the log.

A definition marks the types: a service whose broker delivers a refused command again every minute reports the refusal
every minute, without end. What matters is that it still refuses, and since when. Guarantee: each message is stored,
counted here, or quarantined, before it is acknowledged.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import md5
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import F, QuerySet

from bridge import sql, statements
from bridge.envelope import Envelope
from bridge.models import CollapsedEvents
from bridge.once import Once

# How many counted ids are remembered for each group. Pulsar redelivers what a bridge had not acknowledged when it
# died, which are at most the last messages of a minute; an older one that is delivered again is counted once more.
REMEMBERED = 100


class Group(NamedTuple):
    """The events that are counted together."""

    stream: str
    key: str
    entity: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How many events of one group were only counted, and when the first and the last of them were received."""

    type: str
    entity: str
    stored: int
    counted: int
    first_at: datetime | None
    last_at: datetime | None


def counted_of(stream: str, key: str, entities: QuerySet[Any, Any]) -> list[Counted]:
    """Return what was only counted of the events of a key, by entity and type. One query.

    entities: a query for the key's entities: events of these that name no key count too.
    """
    columns = ("type", "entity", "stored", "counted", "first_at", "last_at")
    counted = CollapsedEvents.objects.filter(stream=stream, counted__gt=0).values(*columns)
    # A union, and no "or": both parts use the index.
    rows = counted.filter(key=key).union(counted.filter(key="", entity__in=entities), all=True)
    return [Counted(**row) for row in rows.order_by("entity", "type")]


def last_counted(groups: Collection[Group]) -> dict[Group, datetime]:
    """Return when the last event of each group was counted; groups of which none was are left out. One query."""
    if not groups:
        return {}
    return {Group(*row[:4]): row[4] for row in statements.LAST_COUNTED.rows(_dump(groups))}


def take_excess(envelopes: Sequence[Envelope], known: Collection[Once]) -> set[Once]:
    """Count the new events beyond the number that their type stores; return their keys, which must not be stored.

    An event that several saga types read is counted only if none of them needs it any more. envelopes: different
    events, in the order of arrival, of types that collapse. known: keys that are stored already, read after `lock`.
    Needs the caller's transaction. May run twice for one event as long as its id is among the REMEMBERED.
    """
    rows = {group: CollapsedEvents.objects.get(**group._asdict()) for group in _groups(envelopes)}
    stored: Counter[Group] = Counter({group: row.stored for group, row in rows.items()})
    recent = {group: set(row.recent) for group, row in rows.items()}
    excess: dict[Group, list[Envelope]] = defaultdict(list)
    taken: set[Once] = set()
    for event in envelopes:
        if event.once in known:
            continue
        groups = _groups_of(event)
        if any(_digest(event.event_id) in recent[group] for group in groups):
            taken.add(event.once)
        elif all(stored[group] >= event.collapse_after for group in groups):
            taken.add(event.once)
            for group in groups:
                excess[group].append(event)
        else:
            stored.update(groups)
    for group, row in rows.items():
        _count(row, stored[group] - row.stored, excess[group])
    return taken


def lock(envelopes: Sequence[Envelope]) -> None:
    """Lock the rows of the events' groups until the caller's transaction ends, in one order for all writers.

    Of two bridges with events of one group, the second waits here, and then sees what the first one stored and counted.
    """
    statements.LOCK_COUNTED.run(_dump(sorted(_groups(envelopes))))


def _dump(groups: Iterable[Group]) -> list[str]:
    return sql.dump(statements.GROUP, (group._asdict() for group in groups))


def _groups(envelopes: Iterable[Envelope]) -> set[Group]:
    return {group for event in envelopes for group in _groups_of(event)}


def _groups_of(event: Envelope) -> list[Group]:
    return [Group(reading.stream, reading.key, reading.entity, event.type) for reading in event.readings]


def _count(row: CollapsedEvents, stored: int, excess: Sequence[Envelope]) -> None:
    changes: dict[str, Any] = {"stored": F("stored") + stored}
    if excess:
        times = [event.received_at for event in excess]
        recent = [*row.recent, *(_digest(event.event_id) for event in excess)][-REMEMBERED:]
        changes |= {
            "counted": F("counted") + len(excess),
            "first_at": row.first_at or min(times),
            "last_at": max(times),
            "recent": recent,
        }
    if stored or excess:
        CollapsedEvents.objects.filter(pk=row.pk).update(**changes)


def _digest(event_id: str) -> UUID:
    return UUID(bytes=md5(event_id.encode(), usedforsecurity=False).digest())
