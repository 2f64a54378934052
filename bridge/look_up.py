"""Find events by their id or by their Pulsar message id, whole or by its beginning, always by an index.

The unique key of events begins with their day, so an id is looked up on each day that has events: two index probes a
day, some milliseconds for a year.
"""

from collections.abc import Collection

from bridge import statements
from bridge.models import Event, Source

# The shortest beginning of an id that is looked up, in characters, and the most events that are returned.
SHORTEST_PREFIX = 6
MOST = 500

# Sorts after every character of an id, which are all printable.
_LAST = "\U0010ffff"


def by_event_id(event_ids: Collection[str], sources: Collection[str] = Source.values) -> list[int]:
    """Return the pks of the events with one of these ids, at most MOST; usually one, since an id is used once.

    sources: of facts of our own, and of events whose body has no time, only those from these sources.
    """
    return _pks(statements.EVENTS_OF_IDS.rows({"ids": list(event_ids), "sources": list(sources), "most": MOST}))


def by_event_id_prefix(prefix: str) -> list[int]:
    """Return the pks of events whose id begins with this text, at most MOST. None if it is too short."""
    if len(prefix) < SHORTEST_PREFIX:
        return []
    bounds = {"first": prefix, "last": prefix + _LAST}
    return _pks(statements.EVENTS_OF_PREFIX.rows({**bounds, "sources": list(Source.values), "most": MOST}))


def by_message_id(beginning: str) -> list[int]:
    """Return the pks of events whose Pulsar message id is this text or begins with it, at most MOST, newest first.

    None if the text is shorter than the shortest prefix.
    """
    if len(beginning) < SHORTEST_PREFIX:
        return []
    rows = Event.objects.filter(message_id__startswith=beginning).exclude(message_id="")
    # Sorted here: with a limit on sorted rows the planner may read the whole log backwards instead.
    return sorted(rows.order_by().values_list("id", flat=True)[:MOST], reverse=True)


def _pks(rows: Collection[tuple[int]]) -> list[int]:
    return [pk for (pk,) in rows][:MOST]
