"""Apply waiting events to their sagas: many sagas and many events in one transaction.

Claim a window of the queue and process it page by page. For each page: lock the keys that are free, read the events
that still wait, route them to their sagas, fold, write state, steps, log and the required commands, commit. Then match
parked events again for lanes that opened, and repeat until a whole pass over the queue finds nothing: this way a
wake-up that arrived while a key was locked is not lost.

Safe to run in any number of processes at once, and again after a crash at any point: an event leaves the queue in the
transaction that stores its effects. The SQL is in `statements`, the rules are in `engine`.
"""

from __future__ import annotations

import gc
import logging
import socket
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import DataError, IntegrityError, OperationalError, transaction

from bridge import clock
from bridge.sqlstate import sqlstate
from bridge.wakeup import nudge
from sagas.applying import shared_entities, statements, store
from sagas.applying.batch import ApplyResult, SagaBatch
from sagas.applying.ids import new_saga_id
from sagas.applying.statements import EventRow, SagaRow
from sagas.definitions import registry
from sagas.engine import facts as kinds
from sagas.engine.decide import SagaIdentity
from sagas.engine.definition import Entity
from sagas.engine.evolve import interpret, needs_all_lanes
from sagas.engine.fold import Fold
from sagas.engine.state import SagaState
from sagas.models import ParkedReason

logger = logging.getLogger(__name__)

_HOST = socket.gethostname()
# A transaction with up to this many events ends within milliseconds.
FEW_EVENTS = 100
# How many pages of the queue are claimed together.
WINDOW = 20


# PostgreSQL's error code "out of memory", also of a full lock table.
_OUT_OF_MEMORY = "53200"


class WorkerLimitReached(Exception):
    """This host's limit of concurrently applied pages is reached; the running workers will claim the rest."""


def run_apply(seconds: float | None = None, slots: int | None = None) -> int:
    """Apply waiting events until a whole pass finds nothing or the time is over; return how many events it moved.

    seconds: the time budget, after which it stops and sends a wake-up to continue later (default: the setting
    APPLY_SECONDS, well below the soft time limit of a task). slots: how many pages may be applied on this host at once,
    if that pays (`_slots_for`); if the limit is reached it returns, and the running workers claim the rest after their
    commits. None: no limit. Opens its own transactions. May run concurrently, any number of times.
    """
    until = time.monotonic() + (settings.APPLY_SECONDS if seconds is None else seconds)
    total = 0
    while True:
        try:
            moved = _pass(until, slots)
        except WorkerLimitReached:
            return total
        total += moved
        if not moved:
            return total
        if time.monotonic() > until:
            nudge("apply")
            return total


def _pass(until: float, slots: int | None) -> int:
    """Make one pass over the queue, skipping rows that others have locked or that this code is too old for.

    Stops after the first page that ends after `until`: under steady load there is always one more. Returns how many
    events it moved.
    """
    moved, after = 0, 0
    while window := statements.claim(after, WINDOW * settings.APPLY_PAGE):
        after = window[-1].id
        allowed = slots if slots is None else _slots_for(len(window), slots)
        for page in _pages(window, statements.most_keys(settings.APPLY_TURNS)):
            moved += _apply_page_of_many(page, allowed)
            if moved and time.monotonic() > until:
                return moved
    return moved


def _apply_page_of_many(page: Sequence[statements.PendingRow], slots: int | None) -> int:
    """Call `apply_page`, but stop if the server's lock table is full, and use smaller pages from then on."""
    try:
        return apply_page(page, slots)
    except OperationalError as error:
        if sqlstate(error) != _OUT_OF_MEMORY:
            raise
        statements.take_fewer_locks()
        logger.warning("the server's lock table is full: smaller pages from now on, see max_locks_per_transaction")
        raise WorkerLimitReached from error


def _pages(window: list[statements.PendingRow], most_keys: int) -> Iterator[list[statements.PendingRow]]:
    """Split a window of the queue into pages, rows of the same key together, the longest-waiting key first.

    A saga is loaded and written once per page, however many of its events are in it. If thousands of sagas run at once,
    their events are thousands of rows apart: the further a worker is behind, the less each event costs this way.
    most_keys: the maximum of keys in one page, as each is a lock.
    """
    first: dict[str, int] = {}
    window.sort(key=lambda row: first.setdefault(row.key, row.id))
    for start in range(0, len(window), settings.APPLY_PAGE):
        page = window[start : start + settings.APPLY_PAGE]
        # A page has at most as many keys as rows, and most servers' lock tables have room for that many.
        yield from [page] if len(page) <= most_keys else _parts(page, most_keys)


def _parts(page: list[statements.PendingRow], most_keys: int) -> Iterator[list[statements.PendingRow]]:
    """Split a page, whose rows are grouped by key, into parts of at most `most_keys` keys."""
    part: list[statements.PendingRow] = []
    keys = 0
    for _key, group in groupby(page, key=attrgetter("key")):
        if keys == most_keys:
            yield part
            part, keys = [], 0
        part.extend(group)
        keys += 1
    yield part


def _slots_for(waiting: int, slots: int) -> int:
    """Return how many workers may apply at once: all of them for few events (no delay), or for more than one page.

    In between, a second worker would only halve the pages of the first, and events that share a transaction are
    cheaper.
    """
    return 1 if FEW_EVENTS < waiting < settings.APPLY_PAGE else slots


def apply_page(page: Sequence[statements.PendingRow], slots: int | None = None) -> int:
    """Apply the rows of a page whose keys can be locked, in one transaction; return how many events it moved.

    If the database refuses a write, each saga is applied in its own transaction, and the one that fails is set aside.
    Raises WorkerLimitReached if `slots` others are applying on this host. Opens its own transaction.
    """
    try:
        with _gc_disabled(), transaction.atomic(durable=True):
            now = None if slots is None else statements.acquire_worker_slot(_HOST, slots)
            if slots is not None and now is None:
                raise WorkerLimitReached
            applied = _apply_unlocked(page, now)
    except (DataError, IntegrityError) as error:
        logger.warning(
            "the database refused a page of %d events (%s): applying one saga at a time",
            len(page),
            type(error).__name__,
        )
        return _apply_one_by_one(page)
    after_commit(applied)
    return applied.moved


def after_commit(applied: ApplyResult) -> None:
    """Follow up a committed apply transaction: match parked events with lanes that opened, wake the publisher.

    Commands of an entity that two sagas now know are held; holds because of a lane that is now undone are ended. May
    run twice.
    """
    if applied.opened:
        statements.unpark_entities(applied.opened)
    if applied.opened or applied.undone:
        shared_entities.look_again(applied.opened + applied.undone)
    if applied.to_publish:
        nudge("publish")


def apply_key(key: str) -> ApplyResult:
    """Apply all events that wait under a routing key, in the caller's transaction, which holds the key's lock.

    For decisions, which need the current state. Raises what the engine raises: a decision on a broken saga must fail.
    """
    ids = statements.pending_of([key])
    return _apply(ids, {key}, raise_errors=True, ordered_by_person=True) if ids else ApplyResult()


def apply_inside(page: Sequence[statements.PendingRow], now: datetime) -> ApplyResult:
    """Apply the rows of a page whose keys can be locked, in the caller's transaction, as if the time were `now`.

    For simulated sagas that run on their own clock and are never committed: `after_commit` is not called.
    """
    return _apply_unlocked(page, now, ordered_by_person=True)


def _apply_unlocked(
    page: Sequence[statements.PendingRow], now: datetime | None = None, *, ordered_by_person: bool = False
) -> ApplyResult:
    held = statements.try_lock(row.key for row in page)
    ids = [row.id for row in page if row.key in held]
    return _apply(ids, held, now=now, ordered_by_person=ordered_by_person) if ids else ApplyResult()


def _apply_one_by_one(page: Sequence[statements.PendingRow]) -> int:
    by_key: dict[str, list[statements.PendingRow]] = defaultdict(list)
    for row in page:
        by_key[row.key].append(row)
    moved = 0
    for key, group in by_key.items():
        try:
            with transaction.atomic(durable=True):
                applied = _apply_unlocked(group)
        except (DataError, IntegrityError) as error:
            logger.exception("saga %s is set aside: the database refused its new state", key)
            with transaction.atomic(durable=True):
                applied = _set_aside_whole(group, error_location(error))
        after_commit(applied)
        moved += applied.moved
    return moved


@contextmanager
def _gc_disabled() -> Iterator[None]:
    """Disable the garbage collector while a page is applied.

    A page has a million small values that live until its end and have no cycles: searching them for cycles takes up to
    a third of the time, and reference counting frees them. A time limit may be raised between any two lines here: if
    one page leaves the collector disabled, the next one enables it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# --- inside the transaction -----------------------------------------------------------------------------------------


def _apply(
    ids: Sequence[int],
    held: Container[str],
    *,
    raise_errors: bool = False,
    set_aside: str = "",
    now: datetime | None = None,
    ordered_by_person: bool = False,
) -> ApplyResult:
    """Route, fold and store those of the events `ids` whose routing keys are in `held`, which are locked.

    An event may wait under another key than when it was claimed: another worker rerouted it to its saga, whose lock we
    do not hold. It is left to the pass that claims it again. In the caller's transaction.
    """
    now = now or clock.now()
    applied = ApplyResult()
    events = [event for event in statements.read_events(ids, statements.content_types()) if event.routing_key in held]
    work = _route(events, applied, now)
    _fold(work, raise_errors=raise_errors, set_aside=set_aside)
    store.store(work, applied, now, ordered_by_person=ordered_by_person)
    return applied


def _set_aside_whole(group: Sequence[statements.PendingRow], error: str) -> ApplyResult:
    held = statements.try_lock(row.key for row in group)
    ids = [row.id for row in group if row.key in held]
    return _apply(ids, held, set_aside=error) if ids else ApplyResult()


def _route(events: Sequence[EventRow], applied: ApplyResult, now: datetime) -> list[SagaBatch]:
    """Assign each event to its saga: by key, by an attachment, by starting one, or by its entity; park the others."""
    groups: dict[str, list[EventRow]] = defaultdict(list)
    for event in events:
        groups[event.routing_key].append(event)
    stored = statements.load_sagas([_key_of(group[0]) for group in groups.values()])
    unknown = {key: group for key, group in groups.items() if key not in stored}
    for key in _reroute_attached(unknown, applied):
        del unknown[key]
    found = [_batch(stored[key], group) for key, group in groups.items() if key in stored]
    work = [item for item in found if item is not None] + _births(unknown, now)
    _reroute_by_entity(unknown, applied, now)
    parked = [row for item in work for row in _take_unfit(item, now)]
    statements.park(parked)
    applied.parked += len(parked)
    return [item for item in work if item.events]


def _key_of(event: EventRow) -> tuple[str, str]:
    """Return (saga type, key) of the saga that an event waits for. An event without a key waits under its entity."""
    stream, _, key = event.routing_key.partition(":")
    return (stream, "") if not event.key and key == f"@{event.entity}" else (stream, key)


def _batch(row: SagaRow, events: list[EventRow]) -> SagaBatch | None:
    """Return the batch of a stored saga; None if this code does not know its definition.

    Such events stay in the queue until a newer worker takes them.
    """
    try:
        definition = registry.get(row.saga_type, row.version)
    except registry.UnknownDefinition:
        logger.warning(
            "saga %s runs on %s version %d, which this release does not have", row.id, row.saga_type, row.version
        )
        return None
    return SagaBatch(row, SagaIdentity(definition, row.scope, row.id, row.key), events)


def _reroute_attached(unknown: Mapping[str, list[EventRow]], applied: ApplyResult) -> list[str]:
    """Reroute events whose key is attached to a saga; return the routing keys of these events."""
    keys = [_key_of(group[0]) for group in unknown.values() if group[0].key]
    found = statements.attached(keys) if keys else {}
    gone = []
    moves: list[tuple[int, str, str | None]] = []
    for key, group in unknown.items():
        target = found.get(_key_of(group[0]))
        if target is not None:
            moves += [(event.pk, *target) for event in group]
            gone.append(key)
    statements.reroute(moves)
    applied.rerouted += len(moves)
    applied.rerouted_to.update(key for _, key, _ in moves)
    return gone


def _births(unknown: dict[str, list[EventRow]], now: datetime) -> list[SagaBatch]:
    """Create the sagas that start here, with the events parked for them; remove both from `unknown`.

    Parking and this search both happen under the key's lock, so no event is missed.
    """
    starting = [key for key, group in unknown.items() if any(_starts(event) for event in group)]
    if not starting:
        return []
    keys = {key: _key_of(unknown[key][0]) for key in starting}
    parked: dict[str, list[EventRow]] = defaultdict(list)
    for event in statements.take_parked(list(keys.values()), statements.content_types()):
        parked[event.routing_key].append(event)
    born = []
    for key in starting:
        saga_type, saga_key = keys[key]
        definition = registry.current(saga_type)
        row = SagaRow(
            str(new_saga_id()),
            saga_type,
            definition.version,
            settings.SAGA_FAILURE_SCOPE,
            saga_key,
            SagaState(),
            0,
            set_aside=False,
            created_at=now,
        )
        events = sorted(unknown.pop(key) + parked[key], key=lambda event: event.pk)
        born.append(SagaBatch(row, SagaIdentity(definition, row.scope, row.id, saga_key), events, born=True))
    return born


def _starts(event: EventRow) -> bool:
    if event.source != kinds.WIRE:
        return event.type == kinds.SAGA_ADOPTED
    return registry.starts(event.stream, event.type)


def _reroute_by_entity(unknown: Mapping[str, list[EventRow]], applied: ApplyResult, now: datetime) -> None:
    """Reroute events whose key no saga has to the only saga with their entity's lane, if their type allows; else park.

    In the caller's transaction.
    """
    known = registry.current_definitions()
    events = [event for group in unknown.values() for event in group if event.stream in known]
    wanted = sorted({(event.stream, event.entity) for event in events if event.entity})
    found = statements.owners(wanted) if wanted else {}
    moves: list[tuple[int, str, str | None]] = []
    parked = []
    for event in events:
        owners = found.get((event.stream, event.entity), [])
        if len(owners) == 1 and event.found_by_entity():
            moves.append((event.pk, owners[0][0], None))
            continue
        reason = ParkedReason.AMBIGUOUS if len(owners) > 1 and event.found_by_entity() else ParkedReason.NO_SAGA
        parked.append(store.parked_row(event, reason, owners[0][1] if len(owners) == 1 else None, now))
    statements.reroute(moves)
    statements.park(parked)
    applied.rerouted += len(moves)
    applied.rerouted_to.update(key for _, key, _ in moves)
    applied.parked += len(parked)


def _take_unfit(item: SagaBatch, now: datetime) -> list[dict[str, Any]]:
    """Remove the events that this saga cannot take now; return their rows to be parked.

    These are all events if the saga is set aside, otherwise those that lack the entity they need.
    """
    if item.row.set_aside:
        reason, unfit = ParkedReason.SET_ASIDE, item.events
    else:
        reason, unfit = ParkedReason.NO_ENTITY, [event for event in item.events if _lacks_entity(item.identity, event)]
    if unfit:
        item.events = [event for event in item.events if event not in unfit]
    return [store.parked_row(event, reason, item.row.id, now) for event in unfit]


def _lacks_entity(identity: SagaIdentity, event: EventRow) -> bool:
    spec = identity.definition.event_of.get(event.type)
    if spec is None or event.source != kinds.WIRE or not identity.definition.entity_field:
        return False
    return spec.entity is Entity.LANE and not event.entity and not event.lane


def _fold(work: Iterable[SagaBatch], *, raise_errors: bool, set_aside: str) -> None:
    todo = list(work)
    for item in todo:
        item.error = set_aside
        _guarded(_interpret, item, raise_errors)
    _load([item for item in todo if not item.error])
    for item in todo:
        _guarded(_fold_one, item, raise_errors)


def _guarded(engine: Callable[[SagaBatch], None], item: SagaBatch, raise_errors: bool) -> None:
    """Call the engine for one saga. If it raises, set the error, so that only this saga is set aside."""
    if item.error:
        return
    try:
        engine(item)
    except SoftTimeLimitExceeded:  # caused by a slow machine, not by this saga
        raise
    except Exception as error:
        if raise_errors:
            raise
        logger.exception("saga %s is set aside: the engine failed on its events", item.row.id)
        item.error = error_location(error)


def _interpret(item: SagaBatch) -> None:
    identity = item.identity
    item.interpreted = [(fact, interpret(identity, fact)) for fact in map(EventRow.fact, item.events)]
    item.whole = any(needs_all_lanes(identity, fact, interpretation) for fact, interpretation in item.interpreted)


def _load(work: Sequence[SagaBatch]) -> None:
    """Load the lanes that the facts touch, or all lanes of a saga with a fact that concerns all."""
    known = [item for item in work if not item.born]
    whole = {item.row.id: item.identity for item in known if item.whole}
    some = {item.row.id: item.identity for item in known if not item.whole}
    wanted = [
        (item.row.id, entity)
        for item in known
        if not item.whole
        for entity in {entity for _, interpretation in item.interpreted for entity in interpretation.touched}
    ]
    stored = statements.load_lanes(some, wanted) if wanted else {}
    if whole:
        stored |= statements.load_all_lanes(whole)
    for item in known:
        item.stored = stored.get(item.row.id) or statements.NOTHING_STORED


def _fold_one(item: SagaBatch) -> None:
    fold = Fold(item.identity, item.row.saga, item.stored.lanes)
    item.notes = [fold.apply(fact, interpretation) for fact, interpretation in item.interpreted]
    item.fold = fold


def error_location(error: BaseException) -> str:
    """Describe an error by its type and place, without its message, which may quote confidential data."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
