"""Unmatched events, grouped by the key under which they arrived. Five to seven queries a page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.postgres.aggregates import ArrayAgg
from django.core.exceptions import EmptyResultSet
from django.db.models import Case, Count, F, Max, Min, QuerySet, TextField, Value, When
from django.db.models.functions import Cast

from bridge import readings
from sagas.models import Lane, Parked, PrunedKey, SagaLog
from sagas.queries.pages import OFFSET_LIMIT, Page
from sagas.statements import PARKED_GROUPS_PAGE

# How many events of a group are listed; the others can be found by its key.
NAMED_EVENTS = 20

_FOR_THE_ATTENTION_LIST = {
    "count": Count("event"),
    "first_event": Min("event"),
    "likely": Min(Cast("suggestion", TextField())),
    "likely_last": Max(Cast("suggestion", TextField())),
}
_FOR_THE_LIST = {
    **_FOR_THE_ATTENTION_LIST,
    "last_at": Max("since"),
    "first_entity": Min("entity"),
    "entities": Count("entity", distinct=True),
    "reasons": ArrayAgg("reason", distinct=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedGroup:
    """All parked events of one key. Events without a key (`key` is empty) are grouped by their `entity`.

    `suggestion` is the only saga that has a lane of their entity, otherwise the one that applying suggested.
    `pruned_at`: when the saga that had this key was pruned; the events arrived too late for it.
    `entity` is the first of `entities`. `first_at` and `last_at` are when the events were parked.
    """

    stream: str
    key: str
    entity: str
    entities: int
    count: int
    types: Sequence[str]
    reasons: Sequence[str]
    first_at: datetime
    last_at: datetime
    event_ids: Sequence[str]
    dismissed: bool
    suggestion: UUID | None
    suggestion_key: str | None
    pruned_at: datetime | None


def parked_groups(
    offset: int = 0, limit: int = 100, *, dismissed: bool = False, only: QuerySet[Any, Any] | None = None
) -> Page[ParkedGroup]:
    """Return a page of the groups, the longest parked first. only: the ids of the events to consider; None: all."""
    rows = Parked.objects.filter(dismissed_at__isnull=not dismissed)
    if only is not None:
        rows = rows.filter(pk__in=only)
    total, page = _oldest(_by_key(rows), offset, limit)
    return Page(total, offset, limit, _groups(_described(rows, page, _FOR_THE_LIST), dismissed))


def groups_before(before: datetime) -> QuerySet[Any, Any]:
    """Return the groups of events parked before a time and not dismissed, unordered, for counting."""
    return _by_key(Parked.objects.filter(dismissed_at__isnull=True, since__lt=before))


def newest_groups(before: datetime, part: slice) -> list[dict[str, Any]]:
    """Return a part of the groups of events parked before a time and not dismissed, the newest first."""
    rows = Parked.objects.filter(dismissed_at__isnull=True, since__lt=before)
    newest = _by_key(rows).annotate(latest=Max("since")).order_by("-latest", "stream", "key", "alone")
    return _described(rows, list(newest[part]), {**_FOR_THE_ATTENTION_LIST, "latest": Max("since")})


def pruned_at(keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], datetime]:
    """Return {(stream, key): when the last saga that had it was pruned}. One query, none without keys."""
    wanted = {(stream, key) for stream, key in keys if key}
    if not wanted:
        return {}
    rows = PrunedKey.objects.filter(key__in={key for _, key in wanted}).order_by("pruned_at")
    return {(stream, key): at for stream, key, at in rows.values_list("stream", "key", "pruned_at")}


def _by_key(rows: QuerySet[Parked]) -> QuerySet[Any, Any]:
    """Group by stream and key; events without a key by their entity."""
    alone = Case(When(key="", then=F("entity")), default=Value(""), output_field=TextField())
    return rows.annotate(alone=alone).order_by().values("stream", "key", "alone").annotate(first_at=Min("since"))


def _oldest(groups: QuerySet[Any, Any], offset: int, limit: int) -> tuple[int, list[dict[str, Any]]]:
    """Return the number of groups and a page of them, the longest parked first."""
    found: list[tuple[Any, ...]] = []
    if offset < OFFSET_LIMIT:
        try:
            statement, parameters = PARKED_GROUPS_PAGE.around(groups)
        except EmptyResultSet:  # Django says so of a query that can find nothing, instead of its SQL
            return 0, []
        found = statement.rows([*parameters, limit, offset])
    total = found[0][-1] if found else groups.count()
    return total, [{"stream": stream, "key": key, "alone": alone} for stream, key, alone, _total in found]


def _described(
    rows: QuerySet[Parked], page: Sequence[dict[str, Any]], details: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the groups of a page with their details: aggregating these for thousands of groups is the costly part."""
    wanted = rows.filter(stream__in={row["stream"] for row in page}, key__in={row["key"] for row in page})
    found = {_name(row): row for row in _by_key(wanted).annotate(**details)} if page else {}
    return [found[_name(row)] for row in page if _name(row) in found]  # a group may have found its saga meanwhile


def _groups(found: Sequence[dict[str, Any]], dismissed: bool) -> list[ParkedGroup]:
    if not found:
        return []
    events = _events_of(found, dismissed)
    owners = _owners({(row["stream"], row["first_entity"]) for row in found if row["first_entity"]})
    suggestions = {_name(row): _suggestion(row, owners) for row in found}
    pruned = pruned_at((row["stream"], row["key"]) for row in found)
    keys = dict(SagaLog.objects.filter(id__in=[s for s in suggestions.values() if s]).values_list("id", "key"))
    return [
        ParkedGroup(
            stream=row["stream"],
            key=row["key"],
            entity=row["first_entity"],
            entities=row["entities"],
            count=row["count"],
            types=sorted({kind for _, kind in events[_name(row)]}),
            reasons=sorted(row["reasons"]),
            first_at=row["first_at"],
            last_at=row["last_at"],
            event_ids=[event_id for event_id, _ in events[_name(row)][:NAMED_EVENTS]],
            dismissed=dismissed,
            suggestion=suggestions[_name(row)],
            suggestion_key=_key_of(suggestions[_name(row)], keys),
            pruned_at=pruned.get((row["stream"], row["key"])),
        )
        for row in found
    ]


def _key_of(saga_id: UUID | None, keys: dict[UUID, str]) -> str | None:
    return None if saga_id is None else keys.get(saga_id)


def _name(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["stream"], row["key"], row["alone"]


def _events_of(found: Sequence[dict[str, Any]], dismissed: bool) -> dict[tuple[str, str, str], list[tuple[str, str]]]:
    """Return the (event id, type) of the groups' events, the first parked first. Bodies are not read."""
    keys = {row["key"] for row in found}
    parked = Parked.objects.filter(stream__in={row["stream"] for row in found}, dismissed_at__isnull=not dismissed)
    rows = parked.filter(key__in=keys).order_by("event").values_list("event", "stream", "key", "entity")[:20_000]
    where = {pk: (stream, key, "" if key else entity) for pk, stream, key, entity in rows}
    events: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
    for pk, event_id, kind in readings.names(list(where)):
        events[where[pk]].append((event_id, kind))
    return events


def _owners(entities: set[tuple[str, str]]) -> dict[tuple[str, str], set[UUID]]:
    """Return {(stream, entity): the sagas that have a lane of it}."""
    owners: dict[tuple[str, str], set[UUID]] = defaultdict(set)
    rows = Lane.objects.filter(entity__in={entity for _, entity in entities}, known=True)
    for saga_id, stream, entity in rows.values_list("saga_id", "saga__saga_type", "entity"):
        owners[stream, entity].add(saga_id)
    return owners


def _suggestion(row: dict[str, Any], owners: dict[tuple[str, str], set[UUID]]) -> UUID | None:
    sagas = owners.get((row["stream"], row["first_entity"]), set()) if row["entities"] == 1 else set()
    if len(sagas) == 1:
        return next(iter(sagas))
    return UUID(row["likely"]) if row["likely"] and row["likely"] == row["likely_last"] else None
