"""What is owed, and what holds of it: read from the state, never from the last fact.

Running `decide` twice plans nothing twice: it says what is owed, not what to do. What is owed never becomes un-owed.
"""

from __future__ import annotations

import re
import uuid
from typing import NamedTuple

from sagas.engine.definition import FACT_RANK, RANK_STATUS, Compensation, Confirmation, Definition, StepStatus
from sagas.engine.state import (
    CommandFacts,
    CommandState,
    LaneState,
    LaneStatus,
    Mark,
    SagaCounts,
    SagaState,
    StepKey,
    least,
)

# Every command's id for ever: uuid5 of saga, entity and command under this name space.
COMMAND_NAMESPACE = uuid.UUID("6f1d5c0e-5b1b-5a57-9f0e-3d7f0c6f2a11")

LANE_SCOPE = "lane"
SAGA_SCOPE = "saga"

NO_FACTS = CommandFacts()
FAILED_RANK = FACT_RANK[StepStatus.FAILED]
UUID_SHAPE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class SagaIdentity(NamedTuple):
    """What was frozen at a saga's birth."""

    definition: Definition
    scope: str
    saga_id: str
    key: str


def command_id(saga_id: str, entity: str, command: str) -> str:
    """The one id of a command, for ever."""
    return str(uuid.uuid5(COMMAND_NAMESPACE, f"{saga_id}:{entity}:{command}"))


def saga_failure(identity: SagaIdentity, saga: SagaState) -> Mark | None:
    """What failed the saga: its own failure, else (where lanes fail the saga) the first of a lane or an upload."""
    if saga.failure is not None or identity.scope != SAGA_SCOPE:
        return saga.failure
    return least(saga.lane_failure, saga.upload_failure)


def saga_failed(identity: SagaIdentity, saga: SagaState) -> bool:
    """Whether the saga failed. Sticky."""
    return saga_failure(identity, saga) is not None


def lane_mark(lane: LaneState) -> Mark | None:
    """What failed the lane by itself: a fact, a person, or an undo that somebody else did though nothing had failed."""
    mark = least(lane.failure, lane.forced)
    if not lane.commands:
        return mark
    for facts in lane.commands.values():
        if facts.confirmed is not None:
            mark = least(mark, facts.confirmed)
    return mark


def lane_failed(lane: LaneState, failed: bool) -> bool:
    """Whether the lane failed, by itself or with its saga (`failed`). Sticky."""
    if failed or lane.failure is not None or lane.forced is not None:
        return True
    return bool(lane.commands) and any(facts.confirmed is not None for facts in lane.commands.values())


def lane_processed(identity: SagaIdentity, saga: SagaState, lane: LaneState) -> bool:
    """Whether the lane is through: by a fact of its own, or by one that spoke for all that had come so far."""
    if lane.processed or not saga.processed_all:
        return lane.processed
    needs = identity.definition.processed_needs
    return not needs or needs in lane.milestones


def required_compensations(
    identity: SagaIdentity, saga: SagaState, lane: LaneState, failed: bool | None = None
) -> tuple[Compensation, ...]:
    """The commands owed in a lane, in the definition's order; `failed` is the saga's, where the caller knows it."""
    if not lane.known:
        return ()
    if not lane_failed(lane, saga_failed(identity, saga) if failed is None else failed):
        return ()
    return tuple(
        item for item in identity.definition.compensations if not item.owed_when or item.owed_when in lane.milestones
    )


def command_state(identity: SagaIdentity, saga: SagaState, lane: LaneState, item: Compensation) -> CommandState:
    """What holds of an owed command: confirmed, else given up, else exhausted in its current round, else on its way."""
    facts = lane.commands.get(item.command, NO_FACTS)
    if facts.confirmed is not None or facts.by_hand is not None:
        return CommandState.CONFIRMED
    if item.confirmation is Confirmation.PUBLISHED and facts.published is not None:
        return CommandState.CONFIRMED
    if facts.skipped is not None:
        return CommandState.SKIPPED
    if facts.withdrawn is not None or _withdrawn_by_termination(identity, saga, lane, item):
        return CommandState.WITHDRAWN
    if facts.exhausted_round >= facts.round:
        return CommandState.EXHAUSTED
    return CommandState.ON_THE_WAY


def released(
    identity: SagaIdentity, saga: SagaState, lane: LaneState, required: tuple[Compensation, ...]
) -> tuple[str, ...]:
    """Which owed commands may be published: those whose predecessors in the lane are all answered."""
    waiting = {
        item.command
        for item in required
        if command_state(identity, saga, lane, item) in (CommandState.ON_THE_WAY, CommandState.EXHAUSTED)
    }
    return tuple(item.command for item in required if waiting.isdisjoint(item.after))


def shape_problem(item: Compensation, entity: str, key: str) -> str:
    """Why the service would refuse this command for its shape, in words; empty when it would not."""
    for name in item.uuids:
        value = {"entity": entity, "key": key}[item.data[name]]
        if not UUID_SHAPE.fullmatch(value.lower()):
            return f"{item.service} takes only a UUID as {name}, and this one has another shape: undo it by hand"
    return ""


def lane_status(
    identity: SagaIdentity, saga: SagaState, lane: LaneState, required: tuple[Compensation, ...], failed: bool
) -> LaneStatus:
    """What became of a lane. One that nobody knows, of which only people spoke, is open whatever became of its saga."""
    if not lane.known:
        return LaneStatus.OPEN
    if not lane_failed(lane, failed):
        return LaneStatus.PROCESSED if lane_processed(identity, saga, lane) else LaneStatus.OPEN
    answers = {command_state(identity, saga, lane, item) for item in required}
    if answers & {CommandState.ON_THE_WAY, CommandState.EXHAUSTED}:
        return LaneStatus.UNDOING
    return LaneStatus.UNDONE if answers <= {CommandState.CONFIRMED} else LaneStatus.SETTLED


def step_status(
    identity: SagaIdentity, saga: SagaState, lane: LaneState, key: StepKey, required: tuple[Compensation, ...]
) -> StepStatus:
    """What a step shows: the answer of the command that undoes it, else what its facts say.

    A step that only a command made has no fact: that the command is owed proves that there was something to undo.
    """
    undo = identity.definition.undo_of.get(key)
    if undo is not None and undo in required:
        held = command_state(identity, saga, lane, undo)
        if held is CommandState.CONFIRMED:
            return StepStatus.COMPENSATED
        if held is CommandState.EXHAUSTED:
            return StepStatus.COMPENSATION_FAILED
        if held is CommandState.ON_THE_WAY:
            return StepStatus.COMPENSATING
    facts = lane.steps.get(key)
    if facts is None:
        return StepStatus.COMPLETED
    status = RANK_STATUS[facts.rank]
    if status is StepStatus.STARTED and _has_outcome(identity, saga, lane, key):
        return StepStatus.COMPLETED
    return status


def step_keys(identity: SagaIdentity, lane: LaneState, required: tuple[Compensation, ...]) -> list[StepKey]:
    """The steps that a lane has: those that facts made, and those that a command made."""
    keys = list(lane.steps)
    for item in required:
        key = (item.undoes.type, item.undoes.service)
        if key not in lane.steps:
            keys.append(key)
    return keys


def count_lane(identity: SagaIdentity, saga: SagaState, lane: LaneState, failed: bool | None = None) -> SagaCounts:
    """What the lane adds to its saga's counters; `failed` is the saga's, where the caller knows it."""
    if failed is None:
        failed = saga_failed(identity, saga)
    if lane.known and lane_failed(lane, failed):
        return _failed_tally(identity, saga, lane)
    steps = len(lane.steps)
    failed_steps = [facts.rank for facts in lane.steps.values()].count(FAILED_RANK)
    if not lane.known:
        return SagaCounts(steps=steps, failed_steps=failed_steps)
    processed = int(lane_processed(identity, saga, lane))
    return SagaCounts(1, 1 - processed, processed, 0, 0, 0, 0, 0, 0, 0, steps, failed_steps)


def _failed_tally(identity: SagaIdentity, saga: SagaState, lane: LaneState) -> SagaCounts:
    required = required_compensations(identity, saga, lane, True)
    became = lane_status(identity, saga, lane, required, True)
    held = [command_state(identity, saga, lane, item) for item in required]
    shown = [step_status(identity, saga, lane, key, required) for key in step_keys(identity, lane, required)]
    return SagaCounts(
        known=1,
        undoing=int(became is LaneStatus.UNDOING),
        undone=int(became is LaneStatus.UNDONE),
        settled=int(became is LaneStatus.SETTLED),
        on_the_way=held.count(CommandState.ON_THE_WAY),
        exhausted=held.count(CommandState.EXHAUSTED),
        confirmed=held.count(CommandState.CONFIRMED),
        given_up=held.count(CommandState.SKIPPED) + held.count(CommandState.WITHDRAWN),
        steps=len(shown),
        failed_steps=shown.count(StepStatus.FAILED) + shown.count(StepStatus.COMPENSATION_FAILED),
    )


def _withdrawn_by_termination(identity: SagaIdentity, saga: SagaState, lane: LaneState, item: Compensation) -> bool:
    if saga.claimed is None:
        return False
    return command_id(identity.saga_id, lane.entity, item.command) not in saga.claimed


def _has_outcome(identity: SagaIdentity, saga: SagaState, lane: LaneState, key: StepKey) -> bool:
    awaited = identity.definition.outcome_of.get(key)
    if awaited is None:
        return False
    if any(step_type == awaited and facts.rank > 1 for (step_type, _), facts in lane.steps.items()):
        return True
    if not lane.known or awaited not in identity.definition.processing_steps:
        return False
    return saga.processing_failed or lane_processed(identity, saga, lane)
