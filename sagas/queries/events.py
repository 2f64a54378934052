"""Find the events of a key. No index of the log leads there: what has an event of the key does, a saga or the queue."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db.models import QuerySet

from bridge.models import Event, EventReading, Pending
from sagas.definitions import registry
from sagas.models import Parked, SagaEvent, SagaKey, SagaLog

# How far the queue is looked through, which has no index but its order: a moment's events where the worker keeps up.
QUEUE_LOOKED_THROUGH = 10_000


def of_key(keys: Collection[str]) -> list[int]:
    """Return the pks of the events with one of these keys, the newest first.

    They are in the logs of the sagas that have the key, their own or a further one, among the unmatched events, at the
    head of the queue, or among those that several saga types read.
    """
    sagas = SagaLog.objects.filter(key__in=keys).order_by().values("id")
    further = SagaKey.objects.filter(key__in=keys).values("saga_id")
    logged = SagaEvent.objects.filter(saga__in=sagas.union(further, all=True)).values("event")
    streams = list(registry.current_definitions())
    parked = Parked.objects.filter(stream__in=streams, key__in=keys).values("event")
    queue = Pending.objects.order_by("id").values("id")[:QUEUE_LOOKED_THROUGH]
    read = EventReading.objects.filter(stream__in=streams, key__in=keys).values_list("event", flat=True)
    return sorted({*read} | {pk for place in (logged, parked, queue) for pk in _with_key(place, keys)}, reverse=True)


def _with_key(place: QuerySet[Any, Any], keys: Collection[str]) -> QuerySet[Any, int]:
    return Event.objects.filter(id__in=place, key__in=keys).values_list("id", flat=True)
