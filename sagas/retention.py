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
from django.db import connection, transaction

from bridge import clock
from bridge import retention as log
from compensation import retention as commands
from sagas.applying import shared_entities, statements
from sagas.models import ENDED

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
    yield from _walk(before, place or Place(), limit)


def count(before: datetime, *, limit: int | None = None) -> Pruned:
    """Count what `steps` would delete now, except keys. Reads only, and locks nothing."""
    total = Pruned(dismissed_events=_count_dismissed(before), messages=log.count_messages(before))
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


# What a saga's own row must fulfil. Both clocks count, the services' (end_time) and ours (updated_at): old events that
# were read from the topics only yesterday are not old here.
_SEEMS_RIPE = "updated_at < %s AND set_aside_at IS NULL AND commands_on_the_way = 0 AND commands_exhausted = 0"
# Written as in the index condition, so that the planner uses the index.
_ENDED = ", ".join(f"'{status.value}'" for status in ENDED)


def _ended(before: datetime, place: Place) -> list[Candidate]:
    """Return the next sagas that ended before a time, by the index of end times. Not all of them may be deleted."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT id, saga_type, key, end_time, events_count, {_SEEMS_RIPE} FROM sagas_saga
            WHERE status IN ({_ENDED}) AND end_time < %s AND (end_time, id) > (%s, %s)
            ORDER BY end_time, id LIMIT {LOOK}
            """,  # noqa: S608 (constants of this module)
            [before, before, *place.after],
        )
        return [Candidate(*row) for row in cursor.fetchall()]


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
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT saga_id, stream, key FROM sagas_saga_key WHERE saga_id = ANY(%(ids)s)
            UNION ALL
            SELECT saga_id, stream, key FROM sagas_attachment WHERE saga_id = ANY(%(ids)s)
            """,
            {"ids": list(keys)},
        )
        for saga_id, stream, key in cursor.fetchall():
            keys[saga_id].add((stream, key))
    return keys


def _ripe(sagas: Sequence[Candidate], keys: Mapping[UUID, set[Key]], before: datetime) -> list[Candidate]:
    """Return the sagas that may be deleted. Call it after the locks were taken: a snapshot is older than its locks."""
    if not sagas:
        return []
    ids = [item.id for item in sagas]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT id FROM sagas_saga s
            WHERE id = ANY(%s) AND status IN ({_ENDED}) AND end_time < %s AND {_SEEMS_RIPE}
              AND NOT EXISTS (SELECT 1 FROM sagas_parked p WHERE p.suggestion = s.id AND p.dismissed_at IS NULL)
            """,  # noqa: S608 (constants of this module)
            [ids, before, before],
        )
        ripe = {row[0] for row in cursor.fetchall()}
    ripe -= commands.with_open_commands(ids) | shared_entities.knowing_held(ids)
    wanted = _wanted({key for item in sagas for key in keys[item.id]})
    return [item for item in sagas if item.id in ripe and not wanted & keys[item.id]]


def _wanted(keys: set[Key]) -> set[Key]:
    """Return the keys under which an event waits to be applied, or is parked and not dismissed."""
    by_name = {_routed(key): key for key in keys}
    with connection.cursor() as cursor:
        # Reads the whole queue: it is small by design, and has no index on its keys.
        cursor.execute("SELECT DISTINCT key FROM bridge_pending WHERE key = ANY(%s)", [list(by_name)])
        pending = {by_name[row[0]] for row in cursor.fetchall()}
        cursor.execute(
            """
            SELECT w.stream, w.key FROM unnest(%s::text[], %s::text[]) AS w(stream, key)
            WHERE EXISTS (
                SELECT 1 FROM sagas_parked p
                WHERE p.stream = w.stream AND p.key = w.key AND p.dismissed_at IS NULL OFFSET 0
            )
            """,
            _columns(keys),
        )
        return pending | {(stream, key) for stream, key in cursor.fetchall()}


def _delete(sagas: Sequence[Candidate], keys: Mapping[UUID, set[Key]], before: datetime) -> int:
    """Delete sagas whose locks are held, with all their rows, and keep their keys; return the number of events.

    Events parked under their keys and dismissed only recently are deleted later.
    """
    now = clock.now()
    ids = [item.id for item in sagas]
    named = [(key, item) for item in sagas for key in sorted(keys[item.id])]
    with log.deleting(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM sagas_saga_event WHERE saga_id = ANY(%s) RETURNING event", [ids])
        events = [row[0] for row in cursor.fetchall()]
        cursor.execute(
            """
            DELETE FROM sagas_parked WHERE event IN (
                SELECT p.event FROM unnest(%s::text[], %s::text[]) AS w(stream, key)
                JOIN sagas_parked p ON p.stream = w.stream AND p.key = w.key
                JOIN bridge_event e ON e.id = p.event
                WHERE p.dismissed_at < %s AND e.occurred_at < %s
            ) RETURNING event
            """,
            [*_columns(key for key, _ in named), before, before],
        )
        events += [row[0] for row in cursor.fetchall()]
        log.forget(events, now)
        commands.forget(ids)
        for table in ("sagas_step", "sagas_lane", "sagas_saga_key", "sagas_attachment"):
            cursor.execute(f"DELETE FROM {table} WHERE saga_id = ANY(%s)", [ids])  # noqa: S608 (constants of this module)
        cursor.execute("DELETE FROM sagas_saga WHERE id = ANY(%s)", [ids])
        cursor.execute(
            """
            INSERT INTO sagas_pruned_key (stream, key, saga_id, ended_at, pruned_at)
            SELECT w.*, %s FROM unnest(%s::text[], %s::text[], %s::uuid[], %s::timestamptz[]) AS w
            """,
            [now, *_columns(key for key, _ in named), [i.id for _, i in named], [i.end_time for _, i in named]],
        )
    return len(events)


def _columns(keys: Iterable[Key]) -> list[list[str]]:
    pairs = list(keys)
    return [[stream for stream, _ in pairs], [key for _, key in pairs]]


# --- rows without a saga ----------------------------------------------------------------------------------------------

# Dismissed events under the key of an existing saga are deleted with that saga.
_DISMISSED = """
    SELECT p.event FROM sagas_parked p JOIN bridge_event e ON e.id = p.event
    WHERE p.dismissed_at < %s AND e.occurred_at < %s
      AND NOT EXISTS (SELECT 1 FROM sagas_saga s WHERE s.key = p.key AND s.saga_type = p.stream)
"""


def _prune_dismissed(before: datetime) -> int:
    """Delete parked events that a person dismissed before a time and whose key no saga has, at most PAGE of them."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM sagas_parked WHERE event IN ({_DISMISSED} LIMIT %s FOR UPDATE OF p SKIP LOCKED)"  # noqa: S608
            " RETURNING event",
            [before, before, PAGE],
        )
        events = [row[0] for row in cursor.fetchall()]
        log.forget(events, clock.now())
    return len(events)


def _count_dismissed(before: datetime) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({_DISMISSED}) AS dismissed", [before, before])  # noqa: S608 (constants of this module)
        return int(cursor.fetchone()[0])


def _forget_keys(before: datetime) -> int:
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM sagas_pruned_key WHERE id IN (
                SELECT id FROM sagas_pruned_key WHERE pruned_at < %s ORDER BY pruned_at LIMIT %s FOR UPDATE SKIP LOCKED
            )
            """,
            [before, PAGE],
        )
        return int(cursor.rowcount)
