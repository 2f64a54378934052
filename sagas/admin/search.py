"""Exact-id search for sagas: by an id of any kind, always by an index, never by a full scan."""

from __future__ import annotations

from uuid import UUID

from sagas.models import SagaLog
from sagas.queries import SagaFilters, of_event
from sagas.queries import ids as spelling
from sagas.queries.sagas import matching

# One id belongs to one saga, or to a few. A correlation id may be shared by many.
MOST = 500


def saga_ids(term: str) -> list[UUID]:
    """Return the sagas of an id: saga, task (own or other), image, correlation or event id."""
    term = term.strip()
    if not term or "\x00" in term:
        return []
    found: dict[UUID, None] = {}
    as_uuid = spelling.saga_id(term)
    if as_uuid is not None:
        found.update(dict.fromkeys(SagaLog.objects.filter(id=as_uuid).values_list("id", flat=True)))
    for filters in (SagaFilters(task_id=term), SagaFilters(image_id=term)):
        found.update(dict.fromkeys(matching(filters).values_list("id", flat=True)[:MOST]))
    spellings = {term, spelling.spelled(term) or term}
    same = SagaLog.objects.filter(correlation_id__in=spellings).order_by("-start_time", "-id")
    found.update(dict.fromkeys(same.values_list("id", flat=True)[:MOST]))
    found.update(dict.fromkeys(saga.id for saga in of_event(term)))
    return list(found)[:MOST]
