"""Write folded sagas as rows: state, steps, log and required commands. All writes of one apply transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from compensation import outbox
from compensation.outbox import CommandRefusal, NewCommand, Settlement
from sagas.applying import breakers, shared_entities, statements
from sagas.applying.batch import ApplyResult, SagaBatch
from sagas.applying.command_building import new_command
from sagas.applying.statements import EventRow, StoredRow
from sagas.engine.decide import (
    NO_FACTS,
    command_id,
    command_state,
    lane_failed,
    lane_status,
    released,
    saga_failed,
    step_keys,
    step_status,
)
from sagas.engine.definition import Compensation
from sagas.engine.fold import STARTED_RANK, Fold
from sagas.engine.state import CommandFacts, CommandState, LaneState, LaneStatus, Mark, StepKey, lane_data, saga_data
from sagas.engine.status import end_time, error_message
from sagas.engine.view import step_view
from sagas.models import ParkedReason

ERROR_LIMIT = 500


def store(work: Sequence[SagaBatch], applied: ApplyResult, now: datetime, *, ordered_by_person: bool = False) -> None:
    """Write the results of a page's folds, in the caller's transaction, which holds the locks of the sagas.

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
        [parked_row(event, ParkedReason.SET_ASIDE, item.row.id, now) for item in broken for event in item.events]
    )
    planned = _store_commands(folded, applied, now)
    if ordered_by_person:
        applied.uncounted.update(planned)
    else:
        breakers.count(planned)
    applied.events += sum(len(item.events) for item in folded)
    applied.parked += sum(len(item.events) for item in broken)
    applied.set_aside += [item.row.id for item in broken]


def _store_sagas(folded: Iterable[SagaBatch], broken: Iterable[SagaBatch], now: datetime) -> None:
    counted: list[SagaBatch] = []
    whole: list[SagaBatch] = []
    for item in folded:
        (counted if not item.born and _only_counters_changed(_fold(item)) else whole).append(item)
    saga_rows = [(item, _saga_row(item, now)) for item in whole] + [(item, _broken_row(item, now)) for item in broken]
    statements.insert_sagas([row for item, row in saga_rows if item.born])
    statements.update_sagas([row for item, row in saga_rows if not item.born])
    statements.update_counts([_counts_row(item, now) for item in counted], _unmoved(counted))


def _only_counters_changed(fold: Fold) -> bool:
    """Return whether the events changed only lanes, counts and the time of the last event."""
    before, saga = fold.before, fold.saga
    return before.started is not None and before[:-2] == saga[:-2]  # all but last_at and counts


def _unmoved(counted: Iterable[SagaBatch]) -> set[str]:
    """Return the count columns that no event of these sagas changed: most, if many sagas of a page are at one stage."""
    folds = [_fold(item) for item in counted]
    before = zip(*(fold.before.counts for fold in folds), strict=True)
    after = zip(*(fold.saga.counts for fold in folds), strict=True)
    return {name for name, was, now in zip(statements.TALLY_COLUMNS, before, after, strict=False) if was == now}


def store_lanes(work: Iterable[SagaBatch], applied: ApplyResult) -> None:
    """Write the lanes and steps that differ from the stored ones, in the caller's transaction.

    Lanes that opened or were undone are added to `applied`.
    """
    new_lanes: list[dict[str, Any]] = []
    changed_lanes: list[dict[str, Any]] = []
    new_steps: list[dict[str, Any]] = []
    changed_steps: list[dict[str, Any]] = []
    for item in work:
        fold = _fold(item)
        for entity in fold.changed:
            lane = fold.lanes[entity]
            row, stored = lane_row(fold, entity), item.stored.rows.get(entity)
            if row is not None and stored is None:
                new_lanes.append(row)
                if lane.known:
                    applied.opened.append((item.row.saga_type, entity))
            elif row is not None and stored is not None and stored.values != (now := _lane_values(row)):
                changed_lanes.append({**row, "id": stored.pk})
                _note_change(applied, (item.row.saga_type, entity), stored.values, now)
            for step in _step_rows(item, fold, entity):
                (changed_steps if "id" in step else new_steps).append(step)
    statements.insert_lanes(new_lanes)
    statements.update_lanes(changed_lanes)
    statements.insert_steps(new_steps)
    statements.update_steps(changed_steps)


def _note_change(
    applied: ApplyResult, entity: tuple[str, str], before: tuple[Any, ...], after: tuple[Any, ...]
) -> None:
    """Note an existing row that became a lane, or a lane that was undone. before, after: in order of LANE_CHANGES."""
    if after[0] and not before[0]:
        applied.opened.append(entity)
    if after[2] == LaneStatus.UNDONE.value != before[2]:
        applied.undone.append(entity)


def parked_row(event: EventRow, reason: ParkedReason, suggestion: str | None, now: datetime) -> dict[str, Any]:
    """Return the row of an event that no saga can take now."""
    return {
        "event": event.pk,
        "stream": event.stream,
        "key": event.key,
        "entity": event.entity,
        "by_entity": bool(event.entity) and event.found_by_entity(),
        "reason": reason.value,
        "since": now,
        "suggestion": suggestion,
    }


def saga_columns(fold: Fold) -> dict[str, Any]:
    """Return the saga's columns that are computed from its state."""
    identity, saga = fold.identity, fold.saga
    state = saga_data(saga)
    state.pop("last_at", None)  # stored in a column of its own, because the rest of the state seldom changes
    return {
        "correlation_id": saga.correlation.text if saga.correlation else identity.key,
        "start_time": saga.started.occurred_at if saga.started else saga.last_at,
        "error_message": error_message(identity, saga),
        "state": state,
        **_counts(fold),
    }


def _counts(fold: Fold) -> dict[str, Any]:
    saga = fold.saga
    return {
        "status": fold.status.value,
        "end_time": end_time(fold.status, saga),
        "last_event_at": saga.last_at,
        **dict(zip(statements.TALLY_COLUMNS, saga.counts, strict=True)),
    }


def _counts_row(item: SagaBatch, now: datetime) -> dict[str, Any]:
    events = item.row.events_count + len(item.events)
    return {"id": item.row.id, **_counts(_fold(item)), "events_count": events, "updated_at": now}


def _fold(item: SagaBatch) -> Fold:
    assert item.fold is not None  # only folded work is stored
    return item.fold


def _saga_row(item: SagaBatch, now: datetime) -> dict[str, Any]:
    return {
        **_birth(item),
        **saga_columns(_fold(item)),
        "events_count": item.row.events_count + len(item.events),
        "set_aside_at": None,
        "set_aside_error": "",
        "updated_at": now,
    }


def _broken_row(item: SagaBatch, now: datetime) -> dict[str, Any]:
    """Return the row of a saga whose events the engine cannot fold: its state before them, and the error."""
    before = Fold(item.identity, item.row.saga, {})
    first = item.events[0].occurred_at
    columns = saga_columns(before)
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


def lane_row(fold: Fold, entity: str) -> dict[str, Any] | None:
    """Return the lane's row; None if it only holds steps."""
    lane = fold.lanes[entity]
    if not lane.known and not lane.commands and lane.forced is None:
        return None
    failed = saga_failed(fold.identity, fold.saga)
    required = fold.required(entity)
    return {
        "saga_id": fold.identity.saga_id,
        "entity": lane.entity,
        "known": lane.known,
        "failed": lane.known and lane_failed(lane, failed),
        "outcome": lane_status(fold.identity, fold.saga, lane, required, failed).value,
        "opened_at": lane.opened_at,
        "state": lane_data(lane),
    }


_lane_values = itemgetter(*statements.LANE_CHANGES)


def step_values(fold: Fold, entity: str, key: StepKey, required: tuple[Compensation, ...]) -> tuple[Any, ...]:
    """Return the values of a step's row, in the order of statements.STEP_CHANGES."""
    view = step_view(fold.identity, fold.saga, fold.lanes[entity], key, required)
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


def all_steps(fold: Fold, entity: str) -> Iterator[tuple[StepKey, tuple[Any, ...]]]:
    """Yield every step of a lane (or of the saga itself) with the values of its row."""
    required = fold.required(entity)
    for key in step_keys(fold.identity, fold.lanes[entity], required):
        yield key, step_values(fold, entity, key, required)


def _step_rows(item: SagaBatch, fold: Fold, entity: str) -> Iterator[dict[str, Any]]:
    required, lane = fold.required(entity), fold.lanes[entity]
    before = {} if required or lane.commands or entity not in fold.stored else fold.stored[entity].steps
    of_lane = item.stored.steps.get(entity, {})
    for key in step_keys(fold.identity, lane, required):
        stored = of_lane.get(key)
        if (
            stored is not None
            and key in before
            and before[key] is lane.steps[key]
            and _as_stored(fold, lane, key, stored)
        ):
            continue
        values = step_values(fold, entity, key, required)
        if stored is None:
            where = {"saga_id": fold.identity.saga_id, "entity": entity, "step_type": key[0], "service": key[1]}
            yield {**where, **dict(zip(statements.STEP_CHANGES, values, strict=True))}
        elif stored.values != values:
            yield {"id": stored.pk, **dict(zip(statements.STEP_CHANGES, values, strict=True))}


def _as_stored(fold: Fold, lane: LaneState, key: StepKey, stored: StoredRow) -> bool:
    """Return whether a step that no command undoes and that has no new facts is shown as it is stored.

    Only a step without an outcome can then have another status: checking that costs less than building the row again.
    """
    if lane.steps[key].rank > STARTED_RANK:
        return True
    return bool(stored.values[0] == step_status(fold.identity, fold.saga, lane, key, ()))


def _log_rows(item: SagaBatch, now: datetime) -> Iterator[dict[str, Any]]:
    first = item.row.events_count + 1
    for number, (event, note) in enumerate(zip(item.events, item.notes, strict=True), start=first):
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


# --- commands -------------------------------------------------------------------------------------------------------


def _store_commands(work: Iterable[SagaBatch], applied: ApplyResult, now: datetime) -> dict[str, int]:
    """Plan required commands and pass on what facts report about them; return the number of new ones by service."""
    planned: list[NewCommand] = []
    settled: list[Settlement] = []
    refused: list[CommandRefusal] = []
    released_ids: list[UUID] = []
    for item in work:
        fold = _fold(item)
        for entity in fold.changed:
            if not fold.required(entity):  # nothing was required before either: a requirement never ends
                continue
            commands = LaneCommandChanges(fold, entity)
            planned += commands.planned(now)
            settled += commands.settled()
            released_ids += commands.released()
        refused += _refusals(item)
    planned = shared_entities.known_to_others(planned)
    new = outbox.plan(planned)
    outbox.settle(settled)
    outbox.refuse(refused)
    outbox.release(released_ids, now)
    retried = any(settlement.status == "retried" for settlement in settled)
    sendable = any(command.released and not command.held_by for command in planned)
    applied.to_publish |= bool(released_ids) or retried or sendable
    return new


class LaneCommandChanges:
    """The outbox changes that a fold causes for the commands of one lane."""

    def __init__(self, fold: Fold, entity: str) -> None:
        self.fold = fold
        self.identity = fold.identity
        self.lane = fold.lanes[entity]
        self.required = fold.required(entity)
        self.released_now = set(released(fold.identity, fold.saga, self.lane, self.required))
        before = fold.stored.get(entity)
        self.before = before if before is not None else LaneState(entity)
        self.required_before = fold.required_before(entity)
        self.released_before = set(released(fold.identity, fold.before, self.before, self.required_before))

    def planned(self, now: datetime) -> list[NewCommand]:
        """Return the commands that were not required before."""
        return [
            new_command(
                self.identity, self.fold.saga, self.lane, item, released=item.command in self.released_now, now=now
            )
            for item in self.required
            if item not in self.required_before
        ]

    def released(self) -> list[UUID]:
        """Return the ids of commands that were required before and may be sent only now."""
        return [
            self._id(item)
            for item in self.required_before
            if item.command in self.released_now and item.command not in self.released_before
        ]

    def settled(self) -> list[Settlement]:
        """Return what facts report about commands that were required before."""
        return [settlement for item in self.required_before for settlement in self._changes_of(item)]

    def all_released(self) -> list[UUID]:
        """Return the ids of all commands whose predecessors are answered, for an outbox that may have missed some."""
        return [self._id(item) for item in self.required if item.command in self.released_now]

    def all_settled(self) -> list[Settlement]:
        """Return the settlements of all answered commands, for an outbox that may have missed some."""
        return [settlement for item in self.required if (settlement := self._settlement(item)) is not None]

    def _changes_of(self, item: Compensation) -> Iterator[Settlement]:
        facts_before = self.before.commands.get(item.command, NO_FACTS)
        facts = self.lane.commands.get(item.command, NO_FACTS)
        state_before = command_state(self.identity, self.fold.before, self.before, item)
        state = command_state(self.identity, self.fold.saga, self.lane, item)
        if facts.round > facts_before.round:
            yield Settlement(command_id=self._id(item), status="retried", at=self._last(facts), round=facts.round)
        if state is state_before and facts[:4] == facts_before[:4]:
            return
        settlement = self._settlement(item)
        if settlement is not None:
            yield settlement

    def _settlement(self, item: Compensation) -> Settlement | None:
        facts = self.lane.commands.get(item.command, NO_FACTS)
        state = command_state(self.identity, self.fold.saga, self.lane, item)
        if state is CommandState.CONFIRMED:
            mark = facts.confirmed or facts.by_hand or facts.published
            by_hand = facts.confirmed is None and facts.by_hand is not None
            return self._settled_by(mark, item, "confirmed", by_hand=by_hand)
        if state is CommandState.SKIPPED:
            return self._settled_by(facts.skipped, item, "skipped", by_hand=True)
        if state is CommandState.WITHDRAWN:
            return self._settled_by(facts.withdrawn or self.fold.saga.failure, item, "withdrawn", by_hand=True)
        return None

    def _settled_by(self, mark: Mark | None, item: Compensation, status: Any, *, by_hand: bool) -> Settlement:
        assert mark is not None  # a fact brought the command into this state
        return Settlement(
            command_id=self._id(item), status=status, at=mark.occurred_at, by_hand=by_hand, event_id=mark.event_id
        )

    def _last(self, facts: CommandFacts) -> datetime:
        assert self.fold.saga.last_at is not None
        return self.fold.saga.last_at

    def _id(self, item: Compensation) -> UUID:
        return UUID(command_id(self.identity.saga_id, self.lane.entity, item.command))


def _refusals(item: SagaBatch) -> Iterator[CommandRefusal]:
    for fact, interpretation in item.interpreted:
        refused = interpretation.means.refuses
        if not refused or not fact.names or interpretation.event is None:
            continue
        text = fact.content.get(interpretation.event.error_in)
        yield CommandRefusal(
            command_id=UUID(command_id(item.row.id, fact.names, refused)),
            error=text[:ERROR_LIMIT] if isinstance(text, str) and text else "refused without a reason",
            at=fact.occurred_at,
            event_id=fact.id,
        )
