"""The status of a saga: the first line of the table that holds."""

from __future__ import annotations

from datetime import datetime

from sagas.engine.decide import Frame, saga_failed, saga_failure
from sagas.engine.state import Saga, SagaStatus

UNFINISHED = frozenset({SagaStatus.STARTED, SagaStatus.COMPENSATING})


def status(frame: Frame, saga: Saga) -> SagaStatus:
    """The saga's status, from its flags and the counters of its lanes. Nothing is terminal against facts."""
    counts = saga.counts
    if counts.exhausted:
        return SagaStatus.COMPENSATION_FAILED
    if counts.on_the_way:
        return SagaStatus.COMPENSATING
    if saga_failed(frame, saga) or _all_lanes_failed(frame, saga):
        all_confirmed = counts.commands > 0 and counts.given_up == 0
        return SagaStatus.COMPENSATION_SUCCEEDED if all_confirmed else SagaStatus.FAILED
    return _status_of_the_rest(frame, saga)


def _status_of_the_rest(frame: Frame, saga: Saga) -> SagaStatus:
    """Where nothing is to be undone and the saga did not fail."""
    counts = saga.counts
    if not _intake_over(frame, saga):
        return SagaStatus.STARTED
    if counts.known == 0 and _announced(frame, saga) == 0:
        return SagaStatus.COMPLETED if saga.upload_failure is None else SagaStatus.FAILED
    if _all_lanes_known(frame, saga) and counts.open == 0 and counts.processed > 0:
        return SagaStatus.COMPLETED
    return SagaStatus.STARTED


def error_message(frame: Frame, saga: Saga) -> str | None:
    """The saga's own failure, else the first lane's, else that of an image that never came to be."""
    mark = saga_failure(frame, saga) or saga.lane_failure or saga.upload_failure
    return mark.text if mark else None


def end_time(shown: SagaStatus, saga: Saga) -> datetime | None:
    """The time of the last fact, while nothing is under way. shown: the saga's status."""
    return None if shown in UNFINISHED else saga.last_at


def _intake_over(frame: Frame, saga: Saga) -> bool:
    return saga.intake_over or not frame.definition.counts_lanes


def _announced(frame: Frame, saga: Saga) -> int:
    """How many lanes were announced: none by an end of the intake that gave no number, one where nothing announces."""
    if not frame.definition.counts_lanes:
        return 1
    return saga.announced.lanes if saga.announced else 0


def _all_lanes_known(frame: Frame, saga: Saga) -> bool:
    return saga.counts.known >= _announced(frame, saga)


def _all_lanes_failed(frame: Frame, saga: Saga) -> bool:
    over = _intake_over(frame, saga) or saga.undo_echoed
    counts = saga.counts
    return over and _all_lanes_known(frame, saga) and counts.known > 0 and counts.failed_lanes == counts.known
