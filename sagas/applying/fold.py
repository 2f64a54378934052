"""Fold the events of each saga into its state: interpret them, load the lanes they touch, apply the engine.

Only here does applying call the engine. What it returns, a `SagaChange`, contains all that `store` writes.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence

from celery.exceptions import SoftTimeLimitExceeded

from sagas.applying import statements
from sagas.applying.batch import SagaBatch
from sagas.applying.statements import EventRow
from sagas.engine.evolve import interpret, needs_all_lanes
from sagas.engine.fold import Fold

logger = logging.getLogger(__name__)


def fold(work: Sequence[SagaBatch], *, raise_errors: bool = False, set_aside: str = "") -> None:
    """Set the change of each saga, in the caller's transaction, which holds the locks of the sagas.

    A saga on whose events the engine raises gets an error and the change of no event; the others are not affected.
    raise_errors: raise instead. set_aside: an error for every saga, so that nothing is folded.
    """
    for item in work:
        item.error = set_aside
        _guarded(_interpret, item, raise_errors)
    _load([item for item in work if not item.error])
    for item in work:
        _guarded(_fold_one, item, raise_errors)
        if item.error:
            item.change = Fold(item.identity, item.row.saga, {}).change(whole=True)


def error_location(error: BaseException) -> str:
    """Return an error's type and place, in no language; without its message, which may quote confidential data."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{place}"


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
    folding = Fold(item.identity, item.row.saga, item.stored.lanes)
    for fact, interpretation in item.interpreted:
        folding.apply(fact, interpretation)
    item.change = folding.change()
