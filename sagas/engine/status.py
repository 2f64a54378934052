"""The status of a saga: the first rule that applies."""

from __future__ import annotations

from datetime import datetime

from sagas.engine.decide import SagaIdentity, saga_failed, saga_failure
from sagas.engine.state import SagaState, SagaStatus

UNFINISHED = frozenset({SagaStatus.STARTED, SagaStatus.COMPENSATING})


def status(identity: SagaIdentity, saga: SagaState) -> SagaStatus:
    """Return the status, from the flags of the saga and the counters of its lanes. Facts may change every status."""
    counts = saga.counts
    if counts.exhausted:
        return SagaStatus.COMPENSATION_FAILED
    if counts.on_the_way:
        return SagaStatus.COMPENSATING
    if saga_failed(identity, saga) or _all_lanes_failed(identity, saga):
        all_confirmed = counts.commands > 0 and counts.given_up == 0
        return SagaStatus.COMPENSATION_SUCCEEDED if all_confirmed else SagaStatus.FAILED
    return _status_without_failure(identity, saga)


def _status_without_failure(identity: SagaIdentity, saga: SagaState) -> SagaStatus:
    """Return the status of a saga that has nothing to undo and did not fail."""
    counts = saga.counts
    if not _intake_over(identity, saga):
        return SagaStatus.STARTED
    if counts.known == 0 and _announced(identity, saga) == 0:
        return SagaStatus.COMPLETED if saga.upload_failure is None else SagaStatus.FAILED
    if _all_lanes_known(identity, saga) and counts.open == 0 and counts.processed > 0:
        return SagaStatus.COMPLETED
    return SagaStatus.STARTED


def error_message(identity: SagaIdentity, saga: SagaState) -> str | None:
    """Return the error of the saga itself, else of its first failed lane, else of a failed upload; else None."""
    mark = saga_failure(identity, saga) or saga.lane_failure or saga.upload_failure
    return mark.text if mark else None


def end_time(shown: SagaStatus, saga: SagaState) -> datetime | None:
    """Return the time of the last fact, or None while the saga is unfinished. shown: the status of the saga."""
    return None if shown in UNFINISHED else saga.last_at


def _intake_over(identity: SagaIdentity, saga: SagaState) -> bool:
    return saga.intake_over or not identity.definition.counts_lanes


def _announced(identity: SagaIdentity, saga: SagaState) -> int:
    """Return how many lanes were announced: 0 if no event gave a number, 1 if no event type announces lanes."""
    if not identity.definition.counts_lanes:
        return 1
    return saga.announced.lanes if saga.announced else 0


def _all_lanes_known(identity: SagaIdentity, saga: SagaState) -> bool:
    return saga.counts.known >= _announced(identity, saga)


def _all_lanes_failed(identity: SagaIdentity, saga: SagaState) -> bool:
    over = _intake_over(identity, saga) or saga.undo_echoed
    counts = saga.counts
    return over and _all_lanes_known(identity, saga) and counts.known > 0 and counts.failed_lanes == counts.known
