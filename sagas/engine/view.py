"""The steps of a saga as people read them: values for the rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sagas.engine.decide import NO_FACTS, SagaIdentity, command_state, step_status
from sagas.engine.definition import Compensation, StepStatus
from sagas.engine.state import CommandState, LaneState, SagaState, StepKey, least


class StepView(NamedTuple):
    """One step as it is shown. `rank` is 0 for a step that exists only because a command undoes it."""

    status: StepStatus
    rank: int
    occurred_at: datetime
    event_id: str
    event_type: str
    error: str
    metadata: dict[str, Any] | None
    compensated_at: datetime | None


def step_view(
    identity: SagaIdentity, saga: SagaState, lane: LaneState, key: StepKey, required: tuple[Compensation, ...]
) -> StepView:
    """Return the row of a step. Where no fact created the step, its time is when the lane opened."""
    status = step_status(identity, saga, lane, key, required)
    facts = lane.steps.get(key)
    undo = identity.definition.undo_of.get(key)
    answered = undo if undo is not None and undo in required else None
    metadata = _metadata(identity, saga, lane, answered) if answered else None
    compensated_at = _compensated_at(lane, key, undo) if status is StepStatus.COMPENSATED else None
    if facts is None:
        assert lane.opened_at is not None  # only known lanes have required commands, and a fact opened each of them
        return StepView(status, 0, lane.opened_at, "", "", "", metadata, compensated_at)
    return StepView(
        status, facts.rank, facts.occurred_at, facts.event_id, facts.event_type, facts.error, metadata, compensated_at
    )


def _metadata(identity: SagaIdentity, saga: SagaState, lane: LaneState, undo: Compensation) -> dict[str, Any] | None:
    state = command_state(identity, saga, lane, undo)
    if state in (CommandState.SKIPPED, CommandState.WITHDRAWN):
        return {"compensation": state.value}
    if state is not CommandState.CONFIRMED:
        return None
    facts = lane.commands[undo.command]
    return {"compensation": "by_hand"} if facts.confirmed is None and facts.by_hand is not None else None


def _compensated_at(lane: LaneState, key: StepKey, undo: Compensation | None) -> datetime:
    facts = lane.commands.get(undo.command, NO_FACTS) if undo else NO_FACTS
    mark = facts.confirmed or least(facts.by_hand, facts.published)
    if mark is not None:
        return mark.occurred_at
    return lane.steps[key].occurred_at  # without a command, only a fact of the step itself can have made it COMPENSATED
