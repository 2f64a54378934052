"""The steps of a saga as people read them: values for the rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sagas.engine.decide import NO_FACTS, LaneView
from sagas.engine.definition import Compensation, StepStatus
from sagas.engine.state import CommandState, StepKey, least

# Looking up a member of an enum costs as much as a small function call, and this one is read for each step.
COMPENSATED = StepStatus.COMPENSATED


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


def step_view(view: LaneView, key: StepKey) -> StepView:
    """Return the row of a step of this lane. Where no fact created the step, its time is when the lane opened."""
    status = view.step_status(key)
    undo = view.undo_of(key) if view.commands else None
    metadata = _metadata(view, undo) if undo is not None else None
    compensated_at = _compensated_at(view, key) if status is COMPENSATED else None
    facts = view.lane.steps.get(key)
    if facts is None:
        opened_at = view.lane.opened_at
        assert opened_at is not None  # only known lanes have required commands, and a fact opened each of them
        return StepView(status, 0, opened_at, "", "", "", metadata, compensated_at)
    return StepView(
        status, facts.rank, facts.occurred_at, facts.event_id, facts.event_type, facts.error, metadata, compensated_at
    )


def _metadata(view: LaneView, undo: Compensation) -> dict[str, Any] | None:
    state = view.commands[undo.command]
    if state in (CommandState.SKIPPED, CommandState.WITHDRAWN):
        return {"compensation": state.value}
    if state is not CommandState.CONFIRMED:
        return None
    facts = view.lane.commands[undo.command]
    return {"compensation": "by_hand"} if facts.confirmed is None and facts.by_hand is not None else None


def _compensated_at(view: LaneView, key: StepKey) -> datetime:
    """Return when the undo of this step was confirmed, also where the lane does not require it."""
    lane, undo = view.lane, view.identity.definition.undo_of.get(key)
    facts = lane.commands.get(undo.command, NO_FACTS) if undo is not None else NO_FACTS
    mark = facts.confirmed or least(facts.by_hand, facts.published)
    if mark is not None:
        return mark.occurred_at
    return lane.steps[key].occurred_at  # without a command, only a fact of the step itself can have made it COMPENSATED
