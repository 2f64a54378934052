"""The apply turn: many sagas, many events, one transaction.

Claim a window of the queue and take it page by page, saga by saga. Of a page lock what can be locked, read what still
waits, route it to its sagas, fold, write state, steps, log and the commands that are owed, commit. Then match again
what was parked for lanes that opened, and go on until a whole pass over the queue finds nothing: a nudge that came
while we held a key is not lost that way.

Safe to run in any number of processes at once, and again after a crash at any point: the queue's row goes with the
effects. The statements are in `rows`, the meaning is in `engine`.
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
from bridge.wakeup import nudge
from sagas import shared_entities, statements, store
from sagas.batch import ApplyResult, SagaBatch
from sagas.definitions import registry
from sagas.engine import facts as kinds
from sagas.engine.decide import SagaIdentity
from sagas.engine.definition import Entity
from sagas.engine.evolve import interpret, needs_all_lanes
from sagas.engine.fold import Fold
from sagas.engine.state import SagaState
from sagas.ids import new_saga_id
from sagas.models import ParkedReason
from sagas.statements import EventRow, SagaRow

logger = logging.getLogger(__name__)

_HOST = socket.gethostname()
# Events whose transaction is over within milliseconds.
LITTLE = 100
# Pages of the queue that are looked at together, where so much waits.
WINDOW = 20


_OUT_OF_MEMORY = "53200"


class WorkerLimitReached(Exception):
    """As many pages are being applied on this host as should be at once: who applies them claims again afterwards."""


def run_apply(seconds: float | None = None, turns: int | None = None) -> int:
    """Applies what waits until a whole pass finds nothing or `seconds` are over; returns how many events it moved.

    seconds: before it makes way for others and nudges itself (the setting APPLY_SECONDS, well below the soft time limit
    of a task). turns: how many pages may be applied on this host at once, where that pays (`_turns_for`); it leaves
    where there are so many, to whoever claims again after each commit. None: any number.
    Opens its own transactions. May run anywhere, any number of times at once.
    """
    until = time.monotonic() + (settings.APPLY_SECONDS if seconds is None else seconds)
    total = 0
    while True:
        try:
            moved = _pass(until, turns)
        except WorkerLimitReached:
            return total
        total += moved
        if not moved:
            return total
        if time.monotonic() > until:
            nudge("apply")
            return total


def _pass(until: float, turns: int | None) -> int:
    """One pass over the queue, window after window, past rows that others hold or that this code is too old for.

    No further than to the first page that ends after `until`: under steady load there is always one more.
    """
    moved, after = 0, 0
    while window := statements.claim(after, WINDOW * settings.APPLY_PAGE):
        after = window[-1].id
        may = turns if turns is None else _turns_for(len(window), turns)
        for page in _pages(window, statements.most_keys(settings.APPLY_TURNS)):
            moved += _apply_page_of_many(page, may)
            if moved and time.monotonic() > until:
                return moved
    return moved


def _apply_page_of_many(page: Sequence[statements.PendingRow], turns: int | None) -> int:
    """The same as `apply_page`, but leaves where the server has no room for its locks, and takes fewer from then on."""
    try:
        return apply_page(page, turns)
    except OperationalError as error:
        if getattr(error.__cause__, "pgcode", "") != _OUT_OF_MEMORY:
            raise
        statements.take_fewer_locks()
        logger.warning("the server's lock table is full: smaller pages from now on, see max_locks_per_transaction")
        raise WorkerLimitReached from error


def _pages(window: list[statements.PendingRow], most_keys: int) -> Iterator[list[statements.PendingRow]]:
    """A window of the queue in pages, what waits under the same key together, the longest waiting key first.

    A saga is loaded and written once a page, however many of its events are in it. Where thousands of sagas run at once
    their events lie thousands of rows apart: the further a worker is behind, the less each event costs it this way.
    most_keys: of one page, as each is a lock.
    """
    first: dict[str, int] = {}
    window.sort(key=lambda row: first.setdefault(row.key, row.id))
    for start in range(0, len(window), settings.APPLY_PAGE):
        page = window[start : start + settings.APPLY_PAGE]
        # A page of so many rows has no more keys than rows: most servers' lock tables hold all of them.
        yield from [page] if len(page) <= most_keys else _parts(page, most_keys)


def _parts(page: list[statements.PendingRow], most_keys: int) -> Iterator[list[statements.PendingRow]]:
    """A page, whose rows lie key by key, in parts of so many keys."""
    part: list[statements.PendingRow] = []
    keys = 0
    for _key, group in groupby(page, key=attrgetter("key")):
        if keys == most_keys:
            yield part
            part, keys = [], 0
        part.extend(group)
        keys += 1
    yield part


def _turns_for(waiting: int, turns: int) -> int:
    """How many may be at it: all where little waits, which nobody should wait for, or more than one page.

    In between the second would only halve the pages of the first, and events that share a transaction are cheaper.
    """
    return 1 if LITTLE < waiting < settings.APPLY_PAGE else turns


def apply_page(page: Sequence[statements.PendingRow], turns: int | None = None) -> int:
    """Applies what it can lock of a page, in one transaction; returns how many events it moved.

    Where the database refuses what a page wrote, each saga is applied by itself, and the one to blame is set aside.
    Raises NoTurn where `turns` others are at it on this host.
    """
    try:
        with _gc_disabled(), transaction.atomic(durable=True):
            if turns is not None and not statements.acquire_worker_slot(_HOST, turns):
                raise WorkerLimitReached
            applied = _apply_unlocked(page)
    except (DataError, IntegrityError) as error:
        logger.warning("a page of %d events was refused (%s): one saga at a time", len(page), type(error).__name__)
        return _apply_one_by_one(page)
    after_commit(applied)
    return applied.moved


def after_commit(applied: ApplyResult) -> None:
    """What follows once an apply transaction is committed: parked events find the lanes that opened, commands leave.

    Commands of an entity that two sagas know by now are held; those of one that was undone may be held no more.
    """
    if applied.opened:
        statements.unpark_entities(applied.opened)
    if applied.opened or applied.undone:
        shared_entities.look_again(applied.opened + applied.undone)
    if applied.to_publish:
        nudge("publish")


def apply_key(key: str) -> ApplyResult:
    """Applies all that waits under a routing key whose lock the caller's transaction holds.

    For decisions, which need a saga as it is now. Raises what the engine raises: a decision on a broken saga must fail.
    """
    ids = statements.pending_of([key])
    return _apply(ids, {key}, raise_errors=True, ordered_by_person=True) if ids else ApplyResult()


def apply_inside(page: Sequence[statements.PendingRow], now: datetime) -> ApplyResult:
    """Applies what it can lock of a page, in the caller's transaction, as if it were `now`.

    For stories that are played on a clock of their own and never committed: nothing of `after_commit` is done.
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
            logger.exception("saga %s is set aside: the database refused what it came to", key)
            with transaction.atomic(durable=True):
                applied = _set_aside_whole(group, error_location(error))
        after_commit(applied)
        moved += applied.moved
    return moved


@contextmanager
def _gc_disabled() -> Iterator[None]:
    """Holds the garbage collector back. A page is a million small values that live until its end and refer to no cycle:

    looking for cycles among them again and again takes up to a third of the turn, and counting references frees them.
    A time limit may strike between any two lines here: what one page left switched off, the next one switches on.
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
    """Routes, folds and writes those of the events `ids` whose routing keys are `held`, which is locked.

    An event may wait under another key by now than when it was claimed: somebody sent it to its saga, whose lock is not
    ours. It is left to the pass that claims it anew.
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
    """Gives each event to its saga: by key, by a person's word, by birth, or by its entity; parks the others."""
    groups: dict[str, list[EventRow]] = defaultdict(list)
    for event in events:
        groups[event.routing_key].append(event)
    stored = statements.load_sagas([_key_of(group[0]) for group in groups.values()])
    strangers = {key: group for key, group in groups.items() if key not in stored}
    for key in _send_to_attached(strangers, applied):
        del strangers[key]
    found = [_work(stored[key], group) for key, group in groups.items() if key in stored]
    work = [item for item in found if item is not None] + _births(strangers, now)
    _send_by_entity(strangers, applied, now)
    parked = [row for item in work for row in _unfit(item, now)]
    statements.park(parked)
    applied.parked += len(parked)
    return [item for item in work if item.events]


def _key_of(event: EventRow) -> tuple[str, str]:
    """(saga type, key) of the saga that an event waits for. One without a key waits under its entity's name."""
    stream, _, key = event.routing_key.partition(":")
    return (stream, "") if not event.key and key == f"@{event.entity}" else (stream, key)


def _work(row: SagaRow, events: list[EventRow]) -> SagaBatch | None:
    """None where this code does not know the saga's definition: a newer worker will take it, the events wait."""
    try:
        definition = registry.get(row.saga_type, row.version)
    except registry.UnknownDefinition:
        logger.warning("saga %s runs on %s version %d, which this code lacks", row.id, row.saga_type, row.version)
        return None
    return SagaBatch(row, SagaIdentity(definition, row.scope, row.id, row.key), events)


def _send_to_attached(strangers: Mapping[str, list[EventRow]], applied: ApplyResult) -> list[str]:
    keys = [_key_of(group[0]) for group in strangers.values() if group[0].key]
    found = statements.attached(keys) if keys else {}
    gone = []
    moves: list[tuple[int, str, str | None]] = []
    for key, group in strangers.items():
        target = found.get(_key_of(group[0]))
        if target is not None:
            moves += [(event.pk, *target) for event in group]
            gone.append(key)
    statements.reroute(moves)
    applied.rerouted += len(moves)
    applied.rerouted_to.update(key for _, key, _ in moves)
    return gone


def _births(strangers: dict[str, list[EventRow]], now: datetime) -> list[SagaBatch]:
    """Sagas that start here, with what was parked for them: both sides look after they have the key's lock."""
    starting = [key for key, group in strangers.items() if any(_starts(event) for event in group)]
    if not starting:
        return []
    keys = {key: _key_of(strangers[key][0]) for key in starting}
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
        events = sorted(strangers.pop(key) + parked[key], key=lambda event: event.pk)
        born.append(SagaBatch(row, SagaIdentity(definition, row.scope, row.id, saga_key), events, born=True))
    return born


def _starts(event: EventRow) -> bool:
    if event.source != kinds.WIRE:
        return event.type == kinds.SAGA_ADOPTED
    return registry.starts(event.stream, event.type)


def _send_by_entity(strangers: Mapping[str, list[EventRow]], applied: ApplyResult, now: datetime) -> None:
    """Events whose key no saga has: to the one that has their entity's lane, where their type allows; else parked."""
    known = registry.current_definitions()
    events = [event for group in strangers.values() for event in group if event.stream in known]
    asked = sorted({(event.stream, event.entity) for event in events if event.entity})
    found = statements.owners(asked) if asked else {}
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


def _unfit(item: SagaBatch, now: datetime) -> list[dict[str, Any]]:
    """What this saga cannot take now, to be parked: all where it is set aside, else what lacks the entity it needs."""
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
    """Where the engine raises on a saga, that saga waits for its mending, and the others go on."""
    if item.error:
        return
    try:
        engine(item)
    except SoftTimeLimitExceeded:  # a slow machine's fault, not this saga's
        raise
    except Exception as error:
        if raise_errors:
            raise
        logger.exception("saga %s is set aside: its events make the engine raise", item.row.id)
        item.error = error_location(error)


def _interpret(item: SagaBatch) -> None:
    identity = item.identity
    item.interpreted = [(fact, interpret(identity, fact)) for fact in map(EventRow.fact, item.events)]
    item.whole = any(needs_all_lanes(identity, fact, interpretation) for fact, interpretation in item.interpreted)


def _load(work: Sequence[SagaBatch]) -> None:
    """Loads the lanes that the facts touch, and all of them where a fact speaks for all."""
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
    """An error without its message, which may quote what is confidential: its type and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
