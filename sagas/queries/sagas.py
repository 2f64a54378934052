"""Read sagas: the list with its filters, one saga, and its numbers. Every filter uses an index."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from bridge import collapsed, look_up, readings
from bridge.collapsed import Counted
from bridge.models import Duplicate, Event
from compensation.models import Command, CommandStatus
from sagas.models import Lane, SagaEvent, SagaKey, SagaLog
from sagas.queries.ids import is_storable, spelled
from sagas.queries.pages import Page, page_of, remembered
from sagas.queries.runs import number_of_runs

NEWEST = ("-start_time", "-id")


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaFilters:
    """Filters of the list of sagas; a saga must match all that are given. Both times are of the start, inclusive."""

    status: str = ""
    from_date: datetime | None = None
    to_date: datetime | None = None
    task_id: str = ""
    image_id: str = ""
    saga_type: str = ""
    set_aside: bool = False


def matching(filters: SagaFilters) -> QuerySet[SagaLog]:
    """Return the sagas that match, the newest first. `task_id` matches any key under which events arrived."""
    rows = SagaLog.objects.order_by(*NEWEST)
    exact = {"status": filters.status, "saga_type": filters.saga_type}
    rows = rows.filter(**{name: value for name, value in exact.items() if value})
    if filters.from_date:
        rows = rows.filter(start_time__gte=filters.from_date)
    if filters.to_date:
        rows = rows.filter(start_time__lte=filters.to_date)
    if filters.set_aside:
        rows = rows.filter(set_aside_at__isnull=False)
    if filters.task_id:
        rows = rows.filter(id__in=_with_key(filters.task_id))
    if filters.image_id:
        rows = rows.filter(id__in=_with_entity(filters.image_id))
    return rows


def list_sagas(filters: SagaFilters = SagaFilters(), offset: int = 0, limit: int = 20) -> Page[SagaLog]:
    """Return a page of the sagas that match, the newest first, with the exact total. Always two queries.

    A total of ten thousand or more may be some seconds old.
    """
    rows = matching(filters).defer("state")
    return page_of(rows, offset, limit, total=remembered(filters, rows.count))


def get_saga(saga_id: UUID) -> SagaLog | None:
    """Return one saga, or None."""
    return SagaLog.objects.filter(id=saga_id).first()


def by_correlation(correlation_id: str) -> SagaLog | None:
    """Return the newest saga with this correlation id, or None. A saga without one uses its task id."""
    if not is_storable(correlation_id):
        return None
    rows = SagaLog.objects.order_by(*NEWEST)
    found = rows.filter(correlation_id=correlation_id).first()
    spelling = spelled(correlation_id)
    if found is None and spelling and spelling != correlation_id:
        found = rows.filter(correlation_id=spelling).first()
    return found


def by_task(task_id: str, limit: int = 20) -> list[SagaLog]:
    """Return the sagas that have events of this task, the newest first."""
    return list(matching(SagaFilters(task_id=task_id)).defer("state")[:limit]) if task_id else []


def of_event(event_id: str) -> list[SagaLog]:
    """Return the sagas that applied the event with this id, whatever its source: at most one of each saga type."""
    if not is_storable(event_id):
        return []
    spellings = {event_id.strip(), spelled(event_id) or event_id}
    found = readings.ids_of(Event.objects.filter(id__in=look_up.by_event_id(spellings)))
    return list(SagaLog.objects.filter(id__in=SagaEvent.objects.filter(event__in=found).values("saga_id")))


def metadata(saga: SagaLog) -> dict[str, Any]:
    """Return the numbers of a saga: runs, lanes by outcome, commands by state, events only counted. Two queries."""
    found: dict[str, Any] = {
        "task_id": saga.key,
        "definition_version": saga.version,
        "failure_scope": saga.failure_scope,
        "events": saga.events_count,
        "runs": number_of_runs(saga),
        "lanes": {
            "known": saga.lanes_known,
            "open": saga.lanes_open,
            "processed": saga.lanes_processed,
            "undoing": saga.lanes_undoing,
            "undone": saga.lanes_undone,
            "settled": saga.lanes_settled,
        },
        "commands": {
            "on_the_way": saga.commands_on_the_way,
            "exhausted": saga.commands_exhausted,
            "confirmed": saga.commands_confirmed,
            "given_up": saga.commands_given_up,
        },
    }
    by_hand = Command.objects.filter(saga_id=saga.id, by_hand=True, status=CommandStatus.CONFIRMED).count()
    if by_hand:
        found["commands"]["by_hand"] = by_hand
    if counted := counted_events(saga):
        found["counted_events"] = [asdict(item) for item in counted]
    if saga.set_aside_at is not None:
        found["set_aside"] = {"at": saga.set_aside_at, "error": saga.set_aside_error}
    return found


def counted_events(saga: SagaLog) -> list[Counted]:
    """Return the saga's events that were only counted, because too many equal ones came, by entity and type."""
    return collapsed.counted_of(saga.saga_type, saga.key, saga.lanes.values("entity"))


def duplicates(saga: SagaLog) -> int:
    """Count how many times events of this saga were delivered again."""
    logged = SagaEvent.objects.filter(saga=saga).order_by().values("event")
    return Duplicate.objects.filter(event__in=readings.events_of(logged)).count()


def _with_key(task_id: str) -> Any:
    key = spelled(task_id)
    if key is None:
        return []
    # A union instead of an OR, for which PostgreSQL would read the whole table.
    own = SagaLog.objects.filter(key=key).order_by().values("id")
    return own.union(SagaKey.objects.filter(key=key).values("saga_id"), all=True)


def _with_entity(image_id: str) -> Any:
    entity = spelled(image_id)
    return [] if entity is None else Lane.objects.filter(entity=entity, known=True).values("saga_id")
