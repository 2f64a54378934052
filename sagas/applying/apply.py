"""Apply waiting events to their sagas: many sagas and many events in one transaction.

Claim a window of the queue (`claim`) and process it page by page. For each page: lock the keys that are free and read
the events that still wait (`lock`), assign them to their sagas (`route`), compute what they change (`fold`), write
state, steps, log and the required commands (`store`), commit. Then match parked events again for lanes that opened, and
repeat until a whole pass over the queue finds nothing: this way a wake-up that arrived while a key was locked is not
lost.

Safe to run in any number of processes at once, and again after a crash at any point: an event leaves the queue in the
transaction that stores its effects. The SQL is in `statements`, the rules are in `engine`.
"""

from __future__ import annotations

import gc
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from django.conf import settings
from django.db import DataError, IntegrityError, transaction

from bridge import clock
from bridge.wakeup import nudge
from sagas.applying import claim, fold, lock, route, shared_entities, statements, store
from sagas.applying.batch import ApplyResult
from sagas.applying.statements import EventRow, PendingRow

logger = logging.getLogger(__name__)


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
        except lock.WorkerLimitReached:
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
    moved = 0
    for page in claim.pages():
        with lock.fewer_if_full():
            moved += apply_page(page.rows, slots if slots is None else claim.slots_for(page.waiting, slots))
        if moved and time.monotonic() > until:
            break
    return moved


def apply_page(page: Sequence[PendingRow], slots: int | None = None) -> int:
    """Apply the rows of a page whose keys can be locked, in one transaction; return how many events it moved.

    If the database refuses a write, each saga is applied in its own transaction, and the one that fails is set aside.
    Raises WorkerLimitReached if `slots` others are applying on this host. Opens its own transaction.
    """
    try:
        with _gc_disabled(), transaction.atomic(durable=True):
            now = lock.worker_slot(slots)
            applied = _apply(lock.locked_events(page), now=now)
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
    return _apply(lock.events_of(key), raise_errors=True, ordered_by_person=True)


def apply_inside(page: Sequence[PendingRow], now: datetime) -> ApplyResult:
    """Apply the rows of a page whose keys can be locked, in the caller's transaction, as if the time were `now`.

    For simulated sagas that run on their own clock and are never committed: `after_commit` is not called.
    """
    return _apply(lock.locked_events(page), now=now, ordered_by_person=True)


def _apply(
    events: Sequence[EventRow],
    *,
    now: datetime | None = None,
    raise_errors: bool = False,
    set_aside: str = "",
    ordered_by_person: bool = False,
) -> ApplyResult:
    """Route, fold and store events whose routing keys are locked, in the caller's transaction."""
    applied = ApplyResult()
    if not events:
        return applied
    now = now or clock.now()
    work = route.route(events, applied, now)
    fold.fold(work, raise_errors=raise_errors, set_aside=set_aside)
    store.store(work, applied, now, ordered_by_person=ordered_by_person)
    return applied


def _apply_one_by_one(page: Sequence[PendingRow]) -> int:
    by_key: dict[str, list[PendingRow]] = defaultdict(list)
    for row in page:
        by_key[row.key].append(row)
    moved = 0
    for key, group in by_key.items():
        try:
            with transaction.atomic(durable=True):
                applied = _apply(lock.locked_events(group))
        except (DataError, IntegrityError) as error:
            logger.exception("saga %s is set aside: the database refused its new state", key)
            with transaction.atomic(durable=True):
                applied = _apply(lock.locked_events(group), set_aside=fold.error_location(error))
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
