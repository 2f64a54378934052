"""Fold a saga's log again and report, or repair, the differences: the stored state must equal the fold of its log."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from bridge import clock
from compensation import outbox
from compensation.models import INACTIVE, Command, CommandStatus
from sagas.applying import statements, store
from sagas.applying.batch import ApplyResult, SagaBatch
from sagas.applying.command_building import settlement
from sagas.definitions import registry
from sagas.engine.change import SagaChange
from sagas.engine.decide import SagaIdentity
from sagas.engine.fold import Fold, replay
from sagas.engine.state import StepKey, lane_data, saga_from
from sagas.models import Lane, SagaLog, SagaStep


class Difference(NamedTuple):
    """One value that is stored differently from the fold of the log. May contain error texts: see sagas.error_text."""

    what: str
    stored: Any
    folded: Any


def compare(saga_id: UUID) -> list[Difference]:
    """Return the differences between a saga's stored state and the fold of its log.

    Reads only. Exact only under the saga's lock; without it an event that is applied meanwhile may appear as one.
    """
    row = SagaLog.objects.get(id=saga_id)
    identity = _identity(row)
    log = statements.read_log(identity.saga_id, statements.content_types())
    fold = replay(identity, (event.fact() for event in log))
    change = fold.change()  # from nothing: it contains everything
    stored = statements.load_all_lanes({identity.saga_id: identity})[identity.saga_id]
    return [
        *_saga_differences(row, change, len(log)),
        *_lane_states(stored, fold),
        *_lane_columns(saga_id, change),
        *_step_differences(stored, change),
        *_commands(change),
    ]


def repair(saga_id: UUID, now: datetime | None = None) -> ApplyResult:
    """Overwrite the stored state with the fold of the log, plan required commands that are missing, and end others.

    In the caller's transaction, which holds the saga's lock. May run twice.
    """
    row = SagaLog.objects.get(id=saga_id)
    identity = _identity(row)
    when = now or clock.now()
    log = statements.read_log(identity.saga_id, statements.content_types())
    fold = replay(identity, (event.fact() for event in log))
    # From nothing: it contains everything. Notes and refusals were stored with the events.
    change = replace(fold.change(), notes=(), refusals=())
    stored = statements.load_all_lanes({identity.saga_id: identity})[identity.saga_id]
    item = SagaBatch(_saga_row(row)._replace(events_count=len(log)), identity, [], stored=stored)
    item.change = change
    applied = ApplyResult()
    _remove_strays(stored, change)
    store.store([item], applied, when, ordered_by_person=True)
    outbox.end_requirements(_no_longer_required(change))
    required = [command for lane in change.lanes for command in lane.planned]
    outbox.settle([settlement(command.answer) for command in required if command.answer is not None])
    overtaken = {id_ for lane in change.lanes for id_ in lane.overtaken}
    prompted = {command.id for command in required} - overtaken
    outbox.mark_overtaken(list(map(UUID, overtaken)), list(map(UUID, prompted)))
    outbox.release([UUID(command.id) for command in required if command.released], when)
    applied.to_publish = True
    return applied


def _identity(row: SagaLog) -> SagaIdentity:
    return SagaIdentity(registry.get(row.saga_type, row.version), row.failure_scope, str(row.id), row.key)


def _saga_row(row: SagaLog) -> statements.SagaRow:
    return statements.SagaRow(
        str(row.id),
        row.saga_type,
        row.version,
        row.failure_scope,
        row.key,
        saga_from(row.state, statements.counts_of(row), row.last_event_at),
        row.events_count,
        row.set_aside_at is not None,
    )


def _saga_differences(row: SagaLog, change: SagaChange, events: int) -> list[Difference]:
    folded = store.saga_columns(change) | {"events_count": events}
    if not events:
        # Set aside by its first events: the row has their times, but they are not in the log yet.
        folded = {name: value for name, value in folded.items() if value is not None}
    return [
        Difference(f"saga {name}", _as_json(getattr(row, name)), _as_json(value))
        for name, value in folded.items()
        if getattr(row, name) != value
    ]


def _lane_columns(saga_id: UUID, change: SagaChange) -> list[Difference]:
    """Compare the columns of a lane that lists and filters read, in addition to its state."""
    found = []
    folded = {lane.entity: lane.values for lane in change.lanes}
    shown = Lane.objects.filter(saga=saga_id).order_by("entity").values_list("entity", "failed", "outcome", "opened_at")
    for entity, *was in shown:
        values = folded.get(entity)
        if values is None:
            continue  # reported with its state
        for name, before in zip(("failed", "outcome", "opened_at"), was, strict=True):
            now = getattr(values, name)
            if now != before:
                found.append(Difference(f"lane {entity} {name}", _as_json(before), _as_json(now)))
    return found


def _lane_states(stored: statements.StoredLanes, fold: Fold) -> list[Difference]:
    found = []
    for entity in sorted({*stored.rows, *(e for e, lane in fold.lanes.items() if lane.known)}):
        was = stored.lanes.get(entity) if entity in stored.rows else None
        now = fold.lanes.get(entity)
        before, after = (lane_data(lane) | {"known": lane.known} if lane else None for lane in (was, now))
        if before != after:
            found.append(Difference(f"lane {entity}", before, after))
    return found


def _step_differences(stored: statements.StoredLanes, change: SagaChange) -> list[Difference]:
    folded, shown = _folded_steps(change), _stored_steps(stored)
    found = []
    for entity, key in sorted({*shown, *folded}):
        was = shown.get((entity, key))
        now = folded.get((entity, key))
        if (was.values if was else None) != now:
            what = f"step {key[0]} by {key[1]} of {entity}"
            found.append(Difference(what, was.values[0] if was else None, now[0] if now else None))
    return found


def _folded_steps(change: SagaChange) -> dict[tuple[str, StepKey], tuple[Any, ...]]:
    return {(lane.entity, key): store.step_values(view) for lane in change.lanes for key, view in lane.steps}


def _stored_steps(stored: statements.StoredLanes) -> dict[tuple[str, StepKey], statements.StoredStep]:
    return {(entity, key): step for entity, steps in stored.steps.items() for key, step in steps.items()}


def _commands(change: SagaChange) -> list[Difference]:
    """Return the commands that are required and not in the outbox, and those that it sends though they are not."""
    rows = Command.objects.filter(saga_id=change.identity.saga_id).values_list("entity", "name", "status")
    stored = {(entity, name): status for entity, name, status in rows}
    required = {(command.entity, command.compensation.command) for lane in change.lanes for command in lane.planned}
    missing = [
        place for place in required if stored.get(place, CommandStatus.NOT_REQUIRED) == CommandStatus.NOT_REQUIRED
    ]
    sent = [place for place, status in stored.items() if place not in required and status not in INACTIVE]
    return [
        *(
            Difference(f"command {name} of {entity}", stored.get((entity, name)), "required")
            for entity, name in sorted(missing)
        ),
        *(Difference(f"command {name} of {entity}", stored[entity, name], None) for entity, name in sorted(sent)),
    ]


def _no_longer_required(change: SagaChange) -> list[UUID]:
    """Return the ids of the commands in the outbox that are not required."""
    required = {UUID(command.id) for lane in change.lanes for command in lane.planned}
    stored = Command.objects.filter(saga_id=change.identity.saga_id).exclude(status__in=INACTIVE)
    return [id_ for id_ in stored.values_list("id", flat=True) if id_ not in required]


def _remove_strays(stored: statements.StoredLanes, change: SagaChange) -> None:
    """Delete rows of lanes and steps that the log does not fold to."""
    folded, lanes = _folded_steps(change), {lane.entity for lane in change.lanes}
    Lane.objects.filter(id__in=[row.pk for entity, row in stored.rows.items() if entity not in lanes]).delete()
    SagaStep.objects.filter(
        id__in=[step.pk for place, step in _stored_steps(stored).items() if place not in folded]
    ).delete()


def _as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
