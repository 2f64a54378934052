"""The status of a saga: the first rule that applies."""

from __future__ import annotations

from datetime import datetime

from sagas.engine.decide import SagaIdentity, run_failure
from sagas.engine.definition import Definition
from sagas.engine.state import RunState, SagaCounts, SagaState, SagaStatus

UNFINISHED = frozenset({SagaStatus.STARTED, SagaStatus.COMPENSATING})


def status(identity: SagaIdentity, saga: SagaState) -> SagaStatus:
    """Return the status, from the flags of the saga and the counters of its lanes. Facts may change every status.

    Commands that are not settled count in all runs; everything else is about the latest run.
    """
    if saga.counts.exhausted:
        return SagaStatus.COMPENSATION_FAILED
    if saga.counts.on_the_way:
        return SagaStatus.COMPENSATING
    run, counts = saga.runs[-1], latest_counts(saga)
    if run_failure(identity, run) is not None or _all_lanes_failed(identity, run, counts):
        all_confirmed = counts.commands > 0 and counts.given_up == 0
        return SagaStatus.COMPENSATION_SUCCEEDED if all_confirmed else SagaStatus.FAILED
    return _status_without_failure(identity, run, counts)


def latest_counts(saga: SagaState) -> SagaCounts:
    """Return the counters of the latest run's lanes. Steps of the saga itself are among them."""
    return saga.counts if len(saga.runs) == 1 else saga.counts.without(saga.past)


def _status_without_failure(identity: SagaIdentity, run: RunState, counts: SagaCounts) -> SagaStatus:
    """Return the status of a saga that has nothing to undo and whose latest run did not fail."""
    if not intake_over(identity.definition, run):
        return SagaStatus.STARTED
    if counts.known == 0 and announced_lanes(identity.definition, run) == 0:
        return SagaStatus.COMPLETED if run.upload_failure is None else SagaStatus.FAILED
    if counts.known >= announced_lanes(identity.definition, run) and counts.open == 0 and counts.processed > 0:
        return SagaStatus.COMPLETED
    return SagaStatus.STARTED


def error_message(identity: SagaIdentity, saga: SagaState) -> str | None:
    """Return the error of the latest run itself, else of its first failed lane, else of a failed upload; else None."""
    run = saga.latest
    mark = run_failure(identity, run) or run.lane_failure or run.upload_failure
    return mark.text if mark else None


def end_time(shown: SagaStatus, saga: SagaState) -> datetime | None:
    """Return the time of the last fact, or None while the saga is unfinished. shown: the status of the saga."""
    return None if shown in UNFINISHED else saga.last_at


def intake_over(definition: Definition, run: RunState) -> bool:
    """Return whether no further lanes are expected: by an event, a person's decision, or a silence in force."""
    return run.intake_over or run.closed is not None or run.is_silent or not definition.counts_lanes


def announced_lanes(definition: Definition, run: RunState) -> int:
    """Return how many lanes were announced: 0 if nothing gave a number, 1 if no event type announces lanes.

    A number of an event counts more than one of a person, whichever is later.
    """
    if not definition.counts_lanes:
        return 1
    announced = run.announced or run.closed
    return announced.lanes if announced else 0


def _all_lanes_failed(identity: SagaIdentity, run: RunState, counts: SagaCounts) -> bool:
    if counts.known == 0 or counts.open or counts.processed:
        return False
    over = intake_over(identity.definition, run) or run.undo_echoed
    return over and counts.known >= announced_lanes(identity.definition, run)
