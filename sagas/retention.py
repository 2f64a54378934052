"""Retention: sagas that ended long ago leave with all their rows; what may still need a person stays.

A saga leaves when its status is final, it ended and was last written before the given time, it is not set aside, no
command of it is open, no command of another saga is held because of it, and nothing waits or is parked under any of its
keys. It leaves in one transaction, under the same locks as applying: whole or not at all. A saga that somebody holds is
left for the next time.

What stays: the audit (`Decision`), for ever; the keys of the events and of the saga, for a second period: a message
that is delivered again is a duplicate, and an event that comes late can be explained. This module decides what leaves;
`bridge.retention` and `compensation.retention` delete what is theirs.
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
from sagas import shared_entities, statements
from sagas.models import ENDED

logger = logging.getLogger(__name__)

# How long the task prunes before it makes way for others: it shares its worker with those that must not wait.
SECONDS = 2.0
# After how many seconds the task looks again at those that had to stay.
AGAIN = 600.0
# Sagas that one look takes in.
LOOK = 500
# Events of one transaction, unless a single saga has more.
EVENTS = 2000
# Parked events, and keys of sagas, of one transaction.
PAGE = 1000

Key = tuple[str, str]  # stream, key


@dataclass(frozen=True, slots=True)
class Pruned:
    """What left, or would leave. `left`: sagas that are old enough and stay, because somebody holds or needs them."""

    sagas: int = 0
    events: int = 0
    left: int = 0
    dismissed_events: int = 0
    messages: int = 0
    keys: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


class Candidate(NamedTuple):
    """A saga whose status is final and whose end is old enough. `seems_ripe`: what its own row says of it."""

    id: UUID
    saga_type: str
    key: str
    end_time: datetime
    events_count: int
    seems_ripe: bool


_START = (datetime.min.replace(tzinfo=UTC), UUID(int=0))


@dataclass(slots=True)
class Place:
    """How far a walk over the ended sagas has come: ahead is what gets old meanwhile, behind what had to stay.

    began: when it last was at the start, in seconds of the monotonic clock.
    """

    after: tuple[datetime, UUID] = _START
    began: float = field(default_factory=time.monotonic)

    def move(self, to: Candidate) -> None:
        """Go on after a saga."""
        self.after = (to.end_time, to.id)

    def begin_again(self) -> None:
        """Go back to the start."""
        self.after, self.began = _START, time.monotonic()


def steps(
    before: datetime, keys_before: datetime, *, place: Place | None = None, limit: int | None = None
) -> Iterator[Pruned]:
    """Prunes step by step; each step is committed when it is yielded, so that the caller may stop after any.

    before: what ended (was decided on, was dismissed) earlier leaves; keys_before: keys pruned earlier are forgotten.
    place: where the walk begins, moved along with it; limit: of sagas. Opens its own transactions. May run twice, and
    beside itself and everything else.
    """
    yield from _until_nothing(lambda: Pruned(dismissed_events=_prune_dismissed(before)))
    yield from _until_nothing(lambda: Pruned(messages=log.forget_messages(before)))
    yield from _until_nothing(lambda: Pruned(keys=log.forget_keys(keys_before)))
    yield from _until_nothing(lambda: Pruned(keys=_forget_keys(keys_before)))
    yield from _walk(before, place or Place(), limit)


def count(before: datetime, *, limit: int | None = None) -> Pruned:
    """What `steps` would delete now, keys aside. Reads only, and locks nothing."""
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


def turn() -> Pruned:
    """What beat asks for every few seconds: prunes for SECONDS, and goes on there the next time. Own transactions.

    Does nothing while SAGA_RETENTION_DAYS is not set.
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


# How far this process has walked; a new one begins at the start, which only means to look twice.
_place = Place()


def days_ago(days: int) -> datetime:
    """The time so many days ago."""
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
            place.move(chosen[-1])  # first: what cannot be pruned for an error must not keep the next from it
            done = _prune_group(chosen, before)
            gone += done.sagas
            yield done
            if gone == limit:
                return
        place.move(page[-1])
        yield Pruned(left=len(page) - len(seeming))


# What a saga's own row must say. By both clocks: the services' (end_time) and ours (updated_at): history that was read
# from the topics yesterday is not old.
_SEEMS_RIPE = "updated_at < %s AND set_aside_at IS NULL AND commands_on_the_way = 0 AND commands_exhausted = 0"
# In the words of the index, so that the planner sees that it serves.
_ENDED = ", ".join(f"'{status.value}'" for status in ENDED)


def _ended(before: datetime, place: Place) -> list[Candidate]:
    """The next of the sagas that ended before a time, by the index of their ends. Not all of them may leave."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT id, saga_type, key, end_time, events_count, {_SEEMS_RIPE} FROM sagas_saga
            WHERE status IN ({_ENDED}) AND end_time < %s AND (end_time, id) > (%s, %s)
            ORDER BY end_time, id LIMIT {LOOK}
            """,  # noqa: S608 (our own words)
            [before, before, *place.after],
        )
        return [Candidate(*row) for row in cursor.fetchall()]


def _groups(page: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """Sagas of one transaction each: so many that their events come to EVENTS, at least one."""
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
    """One transaction: locks what it can, looks again at what it locked, deletes."""
    with transaction.atomic(durable=True):
        held = statements.try_lock(_routed((item.saga_type, item.key)) for item in group)
        mine = [item for item in group if _routed((item.saga_type, item.key)) in held]
        # Under the saga's lock nobody gives it another key. Holding its other keys too, nothing is on its way to it.
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
    """Each saga's own key, those under which events came to it, and those that a person attached."""
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
    """Those of them that may leave. Must be asked after the locks were taken: a snapshot is older than its locks."""
    if not sagas:
        return []
    ids = [item.id for item in sagas]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT id FROM sagas_saga s
            WHERE id = ANY(%s) AND status IN ({_ENDED}) AND end_time < %s AND {_SEEMS_RIPE}
              AND NOT EXISTS (SELECT 1 FROM sagas_parked p WHERE p.suggestion = s.id AND p.dismissed_at IS NULL)
            """,  # noqa: S608 (our own words)
            [ids, before, before],
        )
        ripe = {row[0] for row in cursor.fetchall()}
    ripe -= commands.with_open_commands(ids) | shared_entities.knowing_held(ids)
    wanted = _wanted({key for item in sagas for key in keys[item.id]})
    return [item for item in sagas if item.id in ripe and not wanted & keys[item.id]]


def _wanted(keys: set[Key]) -> set[Key]:
    """The keys under which something waits to be applied, or is parked and not dismissed."""
    by_name = {_routed(key): key for key in keys}
    with connection.cursor() as cursor:
        # Reads the queue whole: it is small by construction, and has no index on its keys.
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
    """Deletes sagas whose locks are held, with all their rows, and remembers their keys; returns how many events.

    What was parked under their keys and dismissed only lately leaves later, by itself.
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
            cursor.execute(f"DELETE FROM {table} WHERE saga_id = ANY(%s)", [ids])  # noqa: S608 (our own words)
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


# --- what is of no saga -----------------------------------------------------------------------------------------------

# Of a saga that is still there, dismissed events wait for it to leave.
_DISMISSED = """
    SELECT p.event FROM sagas_parked p JOIN bridge_event e ON e.id = p.event
    WHERE p.dismissed_at < %s AND e.occurred_at < %s
      AND NOT EXISTS (SELECT 1 FROM sagas_saga s WHERE s.key = p.key AND s.saga_type = p.stream)
"""


def _prune_dismissed(before: datetime) -> int:
    """Deletes parked events that a person dismissed before a time and that are of no saga, at most PAGE of them."""
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
        cursor.execute(f"SELECT count(*) FROM ({_DISMISSED}) AS dismissed", [before, before])  # noqa: S608 (our own words)
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
