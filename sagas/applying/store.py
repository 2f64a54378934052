"""Write the changes of sagas as rows: state, steps, log and required commands. All writes of one apply transaction.

What is written stands in each saga's `SagaChange`: nothing here asks the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from compensation import outbox
from compensation.outbox import CommandRefusal, NewCommand, Settlement
from sagas.applying import breakers, shared_entities, statements
from sagas.applying.batch import ApplyResult, SagaBatch
from sagas.applying.command_building import command_refusal, new_command, settlement
from sagas.engine.change import LaneChange, LaneValues, SagaChange
from sagas.engine.state import LaneStatus
from sagas.engine.step_view import StepView
from sagas.models import ParkedReason


def store(work: Sequence[SagaBatch], applied: ApplyResult, now: datetime, *, ordered_by_person: bool = False) -> None:
    """Write the changes of a page's sagas, in the caller's transaction, which holds the locks of the sagas.

    ordered_by_person: the planned commands are part of a decision or a bulk job: they do not count for the circuit
    breaker, or the caller counts them (`applied.uncounted`). Otherwise this must be the last call of its transaction:
    other transactions that plan for the same services wait for its end.
    """
    folded = [item for item in work if not item.error]
    broken = [item for item in work if item.error]
    _store_sagas(folded, broken, now)
    store_lanes(folded, applied)
    statements.log_applied([row for item in folded for row in _log_rows(item, now)])
    statements.insert_keys(_foreign_keys(folded))
    statements.park(
        [
            statements.parked_row(event, ParkedReason.SET_ASIDE, item.row.id, now)
            for item in broken
            for event in item.events
        ]
    )
    planned = _store_commands(folded, applied, now)
    if ordered_by_person:
        applied.uncounted.update(planned)
    else:
        breakers.count(planned)
    applied.events += sum(len(item.events) for item in folded)
    applied.parked += sum(len(item.events) for item in broken)
    applied.set_aside += [item.row.id for item in broken]


# --- sagas ----------------------------------------------------------------------------------------------------------


def _store_sagas(folded: Iterable[SagaBatch], broken: Iterable[SagaBatch], now: datetime) -> None:
    counted: list[SagaBatch] = []
    whole: list[SagaBatch] = []
    for item in folded:
        (counted if item.change.details is None else whole).append(item)
    saga_rows = [(item, _saga_row(item, now)) for item in whole] + [(item, _broken_row(item, now)) for item in broken]
    statements.insert_sagas([row for item, row in saga_rows if item.born])
    statements.update_sagas([row for item, row in saga_rows if not item.born])
    statements.update_versions([row for item, row in saga_rows if item.upgraded])
    statements.update_counts([_counts_row(item, now) for item in counted], _unmoved(counted))


def _unmoved(counted: Iterable[SagaBatch]) -> set[str]:
    """Return the count columns that no event of these sagas changed: most, if many sagas of a page are at one stage."""
    moved = {name for item in counted for name in item.change.counted}
    return {column for name, column in statements.COUNT_COLUMNS.items() if name not in moved}


def saga_columns(change: SagaChange) -> dict[str, Any]:
    """Return the saga's columns that are computed from its state. The change must have the details."""
    details = change.details
    assert details is not None
    return {
        "correlation_id": change.correlation,
        "start_time": details.started_at,
        "error_message": details.error,
        "state": details.state,
        **_counts(change),
    }


def _counts(change: SagaChange) -> dict[str, Any]:
    return {
        "status": change.status.value,
        "end_time": change.end_time,
        "last_event_at": change.saga.last_at,
        **statements.count_columns(change.saga.counts),
    }


def _counts_row(item: SagaBatch, now: datetime) -> dict[str, Any]:
    events = item.row.events_count + len(item.events)
    return {"id": item.row.id, **_counts(item.change), "events_count": events, "updated_at": now}


def _saga_row(item: SagaBatch, now: datetime) -> dict[str, Any]:
    return {
        **_birth(item),
        **saga_columns(item.change),
        "events_count": item.row.events_count + len(item.events),
        "set_aside_at": None,
        "set_aside_error": "",
        "updated_at": now,
    }


def _broken_row(item: SagaBatch, now: datetime) -> dict[str, Any]:
    """Return the row of a saga whose events the engine cannot fold: its state before them, and the error."""
    first = item.events[0].occurred_at
    columns = saga_columns(item.change)
    return {
        **_birth(item),
        **columns,
        "start_time": columns["start_time"] or first,
        "last_event_at": columns["last_event_at"] or first,
        "events_count": item.row.events_count,
        "set_aside_at": now,
        "set_aside_error": item.error,
        "updated_at": now,
    }


def _birth(item: SagaBatch) -> dict[str, Any]:
    row = item.row
    return {
        "id": row.id,
        "saga_type": row.saga_type,
        "version": row.version,
        "failure_scope": row.scope,
        "key": row.key,
        "created_at": row.created_at,
    }


def _log_rows(item: SagaBatch, now: datetime) -> Iterator[dict[str, Any]]:
    first = item.row.events_count + 1
    for number, (event, note) in enumerate(zip(item.events, item.change.notes, strict=True), start=first):
        yield {
            "event": event.pk,
            "saga_id": item.row.id,
            "seq": number,
            "lane": event.lane,
            "applied_at": now,
            "note": note,
        }


def _foreign_keys(work: Iterable[SagaBatch]) -> list[dict[str, Any]]:
    found = {
        (item.row.saga_type, event.key, item.row.id)
        for item in work
        for event in item.events
        if event.key and event.key != item.row.key
    }
    return [{"stream": stream, "key": key, "saga_id": saga_id} for stream, key, saga_id in sorted(found)]


# --- lanes and steps ------------------------------------------------------------------------------------------------


def store_lanes(work: Iterable[SagaBatch], applied: ApplyResult) -> None:
    """Write the lanes and steps that differ from the stored ones, in the caller's transaction.

    Lanes that opened or were undone are added to `applied`.
    """
    new_lanes: list[dict[str, Any]] = []
    changed_lanes: list[dict[str, Any]] = []
    new_steps: list[dict[str, Any]] = []
    changed_steps: list[dict[str, Any]] = []
    gone: list[int] = []
    for item in work:
        for lane in item.change.lanes:
            stored = item.stored.rows.get(lane.entity)
            if lane.values is not None and stored is None:
                new_lanes.append({"saga_id": item.row.id, "entity": lane.entity, **lane.values._asdict()})
                if lane.values.known:
                    applied.opened.append((item.row.saga_type, lane.entity))
            elif lane.values is not None and stored is not None and stored.values != lane.values:
                changed_lanes.append({"id": stored.pk, **lane.values._asdict()})
                _note_change(applied, (item.row.saga_type, lane.entity), stored.values, lane.values)
            if lane.gone:
                gone += _gone(item, lane)
            for step in _step_rows(item, lane):
                (changed_steps if "id" in step else new_steps).append(step)
    statements.insert_lanes(new_lanes)
    statements.update_lanes(changed_lanes)
    statements.insert_steps(new_steps)
    statements.update_steps(changed_steps)
    statements.delete_steps(gone)


def _gone(item: SagaBatch, lane: LaneChange) -> Iterator[int]:
    """Yield the ids of the stored steps that existed only because of commands that are no longer required."""
    of_lane = item.stored.steps.get(lane.entity, {})
    yield from (of_lane[key].pk for key in lane.gone if key in of_lane)


def _note_change(applied: ApplyResult, entity: tuple[str, str], before: LaneValues, after: LaneValues) -> None:
    """Note an existing row that became a lane, or a lane that was undone."""
    if after.known and not before.known:
        applied.opened.append(entity)
    if after.outcome == LaneStatus.UNDONE.value != before.outcome:
        applied.undone.append(entity)


def _step_rows(item: SagaBatch, lane: LaneChange) -> Iterator[dict[str, Any]]:
    of_lane = item.stored.steps.get(lane.entity, {})
    for key, view in lane.steps:
        values, stored = step_values(view), of_lane.get(key)
        if stored is None:
            where = {"saga_id": item.row.id, "entity": lane.entity, "step_type": key[0], "service": key[1]}
            yield {**where, **dict(zip(statements.STEP_CHANGES, values, strict=True))}
        elif stored.values != values:
            yield {"id": stored.pk, **dict(zip(statements.STEP_CHANGES, values, strict=True))}


def step_values(view: StepView) -> tuple[Any, ...]:
    """Return the values of a step's row, in the order of statements.STEP_CHANGES."""
    return (
        view.status.value,
        view.rank,
        view.occurred_at,
        view.event_id,
        view.event_type,
        view.error or None,
        view.metadata,
        view.compensated_at,
    )


# --- commands -------------------------------------------------------------------------------------------------------


def _store_commands(work: Iterable[SagaBatch], applied: ApplyResult, now: datetime) -> dict[str, int]:
    """Plan required commands and pass on what facts report about them; return the number of new ones by service."""
    planned: list[NewCommand] = []
    settled: list[Settlement] = []
    refused: list[CommandRefusal] = []
    released_ids: list[UUID] = []
    ended: list[UUID] = []
    overtaken: list[UUID] = []
    prompted: list[UUID] = []
    for change in (item.change for item in work):
        for lane in change.lanes:
            planned += [new_command(change, command, now) for command in lane.planned]
            settled += map(settlement, lane.answers)
            released_ids += map(UUID, lane.released)
            ended += map(UUID, lane.not_required)
            overtaken += map(UUID, lane.overtaken)
            prompted += map(UUID, lane.prompted)
        refused += map(command_refusal, change.refusals)
    planned = shared_entities.known_to_others(planned)
    outbox.end_requirements(ended)
    new = outbox.plan(planned)
    outbox.settle(settled)
    outbox.mark_overtaken(overtaken, prompted)
    outbox.refuse(refused)
    outbox.release(released_ids, now)
    retried = any(item.status == "retried" for item in settled)
    sendable = any(command.released and not command.held_by for command in planned)
    applied.to_publish |= bool(released_ids) or retried or sendable
    return new
