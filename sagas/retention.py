"""Retention: delete sagas that ended long ago, with all their rows, but never one that may still need a person.

A saga is deleted if its status is final, it ended and was last written before the given time, it is not set aside, none
of its commands is open, no command of another saga is held because of it, and no event waits or is parked under any of
its keys. It is deleted in one transaction, under the same locks as applying: completely or not at all. A saga that is
locked is left for the next time.

What is kept: the audit log (`Decision`), permanently; the keys of the events and of the saga, for a second period, so
that a message that is delivered again is a duplicate and a late event can be explained. This module decides what is
deleted; `bridge.retention` and `compensation.retention` delete their own rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import BooleanField, Exists, ExpressionWrapper, OuterRef, Q, QuerySet

from bridge import clock
from bridge import retention as log
from bridge.models import Event, EventReading, Pending
from compensation import retention as commands
from sagas.applying import shared_entities, statements
from sagas.models import ENDED, Attachment, JobItem, Parked, PrunedKey, SagaKey, SagaLog
from sagas.statements import DELETE_PARKED, DELETE_SAGAS, WANTED_KEYS

logger = logging.getLogger(__name__)

# How long the task prunes each time: it shares its worker with tasks that must not wait.
SECONDS = 2.0
# After how many seconds the task checks the sagas again that could not be deleted.
AGAIN = 600.0
# How many ended sagas one query reads.
LOOK = 500
# The maximum of events in one transaction, unless a single saga has more.
EVENTS = 2000
# The maximum of parked events, and of keys of sagas, in one transaction.
PAGE = 1000

Key = tuple[str, str]  # stream, key


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted, or would be. `left`: sagas that are old enough but locked, or that may still need a person."""

    sagas: int = 0
    events: int = 0
    left: int = 0
    dismissed_events: int = 0
    messages: int = 0
    keys: int = 0
    job_items: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


class Candidate(NamedTuple):
    """A saga whose status is final and whose end is old enough. `seems_ripe`: whether its own row allows deletion."""

    id: UUID
    saga_type: str
    key: str
    end_time: datetime
    events_count: int
    seems_ripe: bool


_START = (datetime.min.replace(tzinfo=UTC), UUID(int=0))


@dataclass(slots=True)
class Place:
    """The position of a walk over the ended sagas. Sagas before it could not be deleted; others may still become old.

    began: when the walk last began at the start, in seconds of the monotonic clock.
    """

    after: tuple[datetime, UUID] = _START
    began: float = field(default_factory=time.monotonic)

    def move(self, to: Candidate) -> None:
        """Continue after a saga."""
        self.after = (to.end_time, to.id)

    def begin_again(self) -> None:
        """Go back to the start."""
        self.after, self.began = _START, time.monotonic()


def steps(
    before: datetime, keys_before: datetime, *, place: Place | None = None, limit: int | None = None
) -> Iterator[Pruned]:
    """Prune step by step; each step is committed when it is yielded, so that the caller may stop after any.

    before: sagas that ended, messages decided on and events dismissed earlier are deleted; keys_before: keys pruned
    earlier are deleted. place: where the walk begins; updated while walking. limit: of sagas. Opens its own
    transactions. May run twice, and concurrently with itself and everything else.
    """
    yield from _until_nothing(lambda: Pruned(dismissed_events=_prune_dismissed(before)))
    yield from _until_nothing(lambda: Pruned(messages=log.forget_messages(before)))
    yield from _until_nothing(lambda: Pruned(keys=log.forget_keys(keys_before)))
    yield from _until_nothing(lambda: Pruned(keys=_forget_keys(keys_before)))
    yield from _until_nothing(lambda: Pruned(job_items=_forget_job_items(before)))
    yield from _walk(before, place or Place(), limit)


def count(before: datetime, *, limit: int | None = None) -> Pruned:
    """Count what `steps` would delete now, except keys. Reads only, and locks nothing."""
    total = Pruned(
        dismissed_events=_dismissed(before).count(),
        messages=log.count_messages(before),
        job_items=_old_job_items(before).count(),
    )
    place = Place()
    while page := _ended(before, place):
        place.move(page[-1])
        seeming = [item for item in page if item.seems_ripe]
        ripe = _ripe(seeming, _keys_of(seeming), before)
        left = len(page) - len(ripe)
        if limit is not None:
            ripe = ripe[: limit - total.sagas]
        total += Pruned(sagas=len(ripe), events=sum(item.events_count for item in ripe), left=left)
        if total.sagas == limit:
            break
    return total


def run_prune() -> Pruned:
    """Prune for SECONDS, and continue from there the next time; beat calls it every few seconds.

    Does nothing if SAGA_RETENTION_DAYS is not set. Opens its own transactions.
    """
    total = Pruned()
    if not settings.SAGA_RETENTION_DAYS:
        return total
    if time.monotonic() - _place.began > AGAIN:
        _place.begin_again()
    until = time.monotonic() + SECONDS
    for done in steps(days_ago(settings.SAGA_RETENTION_DAYS), days_ago(settings.SAGA_PRUNED_KEYS_DAYS), place=_place):
        total += done
        if time.monotonic() > until:
            break
    if total.sagas:
        logger.info("pruned %d sagas with %d events", total.sagas, total.events)
    return total


def _old_job_items(before: datetime) -> QuerySet[JobItem]:
    """Return the items of jobs that ended before a time. The jobs themselves stay, with their numbers."""
    return JobItem.objects.filter(job__finished_at__lt=before)


def _forget_job_items(before: datetime) -> int:
    """Delete a page of the items of old jobs; return how many."""
    page = list(_old_job_items(before).values_list("id", flat=True)[:PAGE])
    JobItem.objects.filter(id__in=page).delete()
    return len(page)


# How far this process has walked; a new one begins at the start, so that some sagas are only checked twice.
_place = Place()


def days_ago(days: int) -> datetime:
    """Return the time `days` days ago."""
    return clock.now() - timedelta(days=days)


def _until_nothing(work: Callable[[], Pruned]) -> Iterator[Pruned]:
    while (done := work()) != Pruned():
        yield done


# --- the walk over ended sagas ----------------------------------------------------------------------------------------


def _walk(before: datetime, place: Place, limit: int | None) -> Iterator[Pruned]:
    gone = 0
    while page := _ended(before, place):
        seeming = [item for item in page if item.seems_ripe]
        for group in _groups(seeming):
            chosen = group if limit is None else group[: limit - gone]
            place.move(chosen[-1])  # first: a group that cannot be pruned because of an error must not block the next
            done = _prune_group(chosen, before)
            gone += done.sagas
            yield done
            if gone == limit:
                return
        place.move(page[-1])
        yield Pruned(left=len(page) - len(seeming))


def _seems_ripe(before: datetime) -> Q:
    """Return what a saga's own row must fulfil.

    Both clocks count, the services' (end_time) and ours (updated_at): old events that were read from the topics only
    yesterday are not old here.
    """
    return Q(updated_at__lt=before, set_aside_at=None, commands_on_the_way=0, commands_exhausted=0)


def _ended(before: datetime, place: Place) -> list[Candidate]:
    """Return the next sagas that ended before a time, by the index of end times. Not all of them may be deleted."""
    end_time, saga_id = place.after
    next_sagas = SagaLog.objects.filter(
        # The first condition is part of the second, but only the first one lets the query start in the index.
        Q(end_time__gte=end_time),
        Q(end_time__gt=end_time) | Q(id__gt=saga_id),
        status__in=ENDED,
        end_time__lt=before,
    )
    seems_ripe = ExpressionWrapper(_seems_ripe(before), BooleanField())
    columns = ("id", "saga_type", "key", "end_time", "events_count", "seems_ripe")
    rows = next_sagas.annotate(seems_ripe=seems_ripe).order_by("end_time", "id").values_list(*columns)
    return list(map(Candidate._make, rows[:LOOK]))


def _groups(page: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """Split sagas into groups for one transaction each, of at most EVENTS events but at least one saga."""
    group: list[Candidate] = []
    events = 0
    for item in page:
        if group and events + item.events_count > EVENTS:
            yield group
            group, events = [], 0
        group.append(item)
        events += item.events_count
    if group:
        yield group


def _prune_group(group: Sequence[Candidate], before: datetime) -> Pruned:
    """Lock the sagas that are free, check them again under the lock and delete them, in one transaction."""
    with transaction.atomic(durable=True):
        held = statements.try_lock(_routed((item.saga_type, item.key)) for item in group)
        mine = [item for item in group if _routed((item.saga_type, item.key)) in held]
        # Under the saga's lock it cannot get another key. With the locks of its other keys, no event can be rerouted
        # to it either.
        keys = _keys_of(mine)
        held |= statements.try_lock(
            _routed(key) for all_keys in keys.values() for key in all_keys if _routed(key) not in held
        )
        mine = [item for item in mine if all(_routed(key) in held for key in keys[item.id])]
        ripe = _ripe(mine, keys, before)
        events = _delete(ripe, keys, before) if ripe else 0
    return Pruned(sagas=len(ripe), events=events, left=len(group) - len(ripe))


def _routed(key: Key) -> str:
    return ":".join(key)


def _keys_of(sagas: Iterable[Candidate]) -> dict[UUID, set[Key]]:
    """Return each saga's keys: its own, those under which events were applied to it, and those that were attached."""
    keys = {item.id: {(item.saga_type, item.key)} for item in sagas}
    attached = Attachment.objects.filter(saga__in=keys).values_list("saga_id", "stream", "key")
    further = SagaKey.objects.filter(saga__in=keys).values_list("saga_id", "stream", "key").union(attached, all=True)
    for saga_id, stream, key in further:
        keys[saga_id].add((stream, key))
    return keys


def _ripe(sagas: Sequence[Candidate], keys: Mapping[UUID, set[Key]], before: datetime) -> list[Candidate]:
    """Return the sagas that may be deleted. Call it after the locks were taken: a snapshot is older than its locks."""
    if not sagas:
        return []
    ids = [item.id for item in sagas]
    wanted_by_parked = Parked.objects.filter(suggestion=OuterRef("id"), dismissed_at=None)
    still = SagaLog.objects.filter(_seems_ripe(before), id__in=ids, status__in=ENDED, end_time__lt=before)
    ripe = set(still.filter(~Exists(wanted_by_parked)).order_by().values_list("id", flat=True))
    ripe -= commands.with_open_commands(ids) | shared_entities.knowing_held(ids)
    wanted = _wanted({key for item in sagas for key in keys[item.id]})
    return [item for item in sagas if item.id in ripe and not wanted & keys[item.id]]


def _wanted(keys: set[Key]) -> set[Key]:
    """Return the keys under which an event waits to be applied, or is parked and not dismissed."""
    by_name = {_routed(key): key for key in keys}
    # Reads the whole queue: it is small by design, and has no index on its keys.
    waiting = Pending.objects.filter(key__in=by_name).order_by().values_list("key", flat=True).distinct()
    pending = {by_name[name] for name in waiting}
    return pending | {(stream, key) for stream, key in WANTED_KEYS.rows(_columns(keys))}


def _delete(sagas: Sequence[Candidate], keys: Mapping[UUID, set[Key]], before: datetime) -> int:
    """Delete sagas whose locks are held, with all their rows, and keep their keys; return the number of events.

    Events parked under their keys and dismissed only recently are deleted later.
    """
    now = clock.now()
    ids = [item.id for item in sagas]
    named = [(key, item) for item in sagas for key in sorted(keys[item.id])]
    with log.deleting():
        applied = DELETE_SAGAS.rows({"ids": ids})
        parked = DELETE_PARKED.rows([*_columns(key for key, _ in named), before, before])
        events = [row[0] for row in (*applied, *parked)]
        log.forget(events, now)
        commands.forget(ids)
    PrunedKey.objects.bulk_create(
        PrunedKey(stream=stream, key=key, saga_id=item.id, ended_at=item.end_time, pruned_at=now)
        for (stream, key), item in named
    )
    return len(events)


def _columns(keys: Iterable[Key]) -> list[list[str]]:
    pairs = list(keys)
    return [[stream for stream, _ in pairs], [key for _, key in pairs]]


# --- rows without a saga ----------------------------------------------------------------------------------------------


def _dismissed(before: datetime) -> QuerySet[Parked]:
    """Return old parked events that were dismissed long ago, but not those under the key of an existing saga.

    The latter are deleted with that saga.
    """
    old_event = Event.objects.filter(id=OuterRef("event"), occurred_at__lt=before)
    old_reading = EventReading.objects.filter(id=OuterRef("event"), event__occurred_at__lt=before)
    saga = SagaLog.objects.filter(key=OuterRef("key"), saga_type=OuterRef("stream"))
    is_old = Exists(old_event) | Exists(old_reading)
    return Parked.objects.filter(is_old, ~Exists(saga), dismissed_at__lt=before)


def _prune_dismissed(before: datetime) -> int:
    """Delete parked events that a person dismissed before a time and whose key no saga has, at most PAGE of them."""
    with transaction.atomic(durable=True):
        page = _dismissed(before).select_for_update(skip_locked=True)[:PAGE]
        events = list(page.values_list("event", flat=True))
        Parked.objects.filter(event__in=events).delete()
        log.forget(events, clock.now())
    return len(events)


def _forget_keys(before: datetime) -> int:
    oldest = PrunedKey.objects.filter(pruned_at__lt=before).order_by("pruned_at").select_for_update(skip_locked=True)
    with transaction.atomic(durable=True):
        return PrunedKey.objects.filter(id__in=oldest.values("id")[:PAGE]).delete()[0]
