"""Which compensations are required and what their state is: derived from the state, never from the last fact.

The functions may run any number of times: they return what is required, not what to do next. Requirements are
monotonic: a compensation that is required once stays required.
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

# The permanent id of each command: uuid5 of saga, entity and command in this namespace. Never change it.
COMMAND_NAMESPACE = uuid.UUID("6f1d5c0e-5b1b-5a57-9f0e-3d7f0c6f2a11")

LANE_SCOPE = "lane"
SAGA_SCOPE = "saga"

NO_FACTS = CommandFacts()
FAILED_RANK = FACT_RANK[StepStatus.FAILED]
UUID_SHAPE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class SagaIdentity(NamedTuple):
    """What is fixed at the birth of a saga."""

    definition: Definition
    scope: str
    saga_id: str
    key: str


def command_id(saga_id: str, entity: str, command: str) -> str:
    """Return the permanent id of a command."""
    return str(uuid.uuid5(COMMAND_NAMESPACE, f"{saga_id}:{entity}:{command}"))


def saga_failure(identity: SagaIdentity, saga: SagaState) -> Mark | None:
    """Return what failed the saga: its own failure, else (scope saga) the first of a lane or an upload."""
    if saga.failure is not None or identity.scope != SAGA_SCOPE:
        return saga.failure
    return least(saga.lane_failure, saga.upload_failure)


def saga_failed(identity: SagaIdentity, saga: SagaState) -> bool:
    """Return whether the saga failed. Once true, always true."""
    return saga_failure(identity, saga) is not None


def lane_mark(lane: LaneState) -> Mark | None:
    """Return what failed the lane itself: an event, a person, or an undo that was confirmed without a failure."""
    mark = least(lane.failure, lane.forced)
    if not lane.commands:
        return mark
    for facts in lane.commands.values():
        if facts.confirmed is not None:
            mark = least(mark, facts.confirmed)
    return mark


def lane_failed(lane: LaneState, failed: bool) -> bool:
    """Return whether the lane failed, itself or with its saga (`failed`). Once true, always true."""
    if failed or lane.failure is not None or lane.forced is not None:
        return True
    return bool(lane.commands) and any(facts.confirmed is not None for facts in lane.commands.values())


def lane_processed(identity: SagaIdentity, saga: SagaState, lane: LaneState) -> bool:
    """Return whether the lane is processed: by an event of its own, or by one about all lanes."""
    if lane.processed or not saga.processed_all:
        return lane.processed
    needs = identity.definition.processed_needs
    return not needs or needs in lane.milestones


def required_compensations(
    identity: SagaIdentity, saga: SagaState, lane: LaneState, failed: bool | None = None
) -> tuple[Compensation, ...]:
    """Return the required compensations of a lane, in the order of the definition.

    failed: whether the saga failed, if the caller knows it.
    """
    if not lane.known:
        return ()
    if not lane_failed(lane, saga_failed(identity, saga) if failed is None else failed):
        return ()
    return tuple(
        item for item in identity.definition.compensations if not item.owed_when or item.owed_when in lane.milestones
    )


def command_state(identity: SagaIdentity, saga: SagaState, lane: LaneState, item: Compensation) -> CommandState:
    """Return the state of a required command.

    The first that applies: confirmed, skipped, withdrawn, exhausted in its current round, pending.
    """
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
    return CommandState.PENDING


def released(
    identity: SagaIdentity, saga: SagaState, lane: LaneState, required: tuple[Compensation, ...]
) -> tuple[str, ...]:
    """Return the required commands that may be published: every command before them in the lane is settled."""
    unsettled = {
        item.command
        for item in required
        if command_state(identity, saga, lane, item) in (CommandState.PENDING, CommandState.EXHAUSTED)
    }
    return tuple(item.command for item in required if unsettled.isdisjoint(item.after))


def shape_problem(item: Compensation, entity: str, key: str) -> str:
    """Return why the service would refuse the form of this command's data, as a sentence; empty if it would not."""
    for name in item.uuids:
        value = {"entity": entity, "key": key}[item.data[name]]
        if not UUID_SHAPE.fullmatch(value.lower()):
            return (
                f"{item.service} accepts only a UUID in {name}, and this value is not a UUID: undo this step manually"
            )
    return ""


def lane_status(
    identity: SagaIdentity, saga: SagaState, lane: LaneState, required: tuple[Compensation, ...], failed: bool
) -> LaneStatus:
    """Return the status of a lane. One that only decisions named, and no event, is always open."""
    if not lane.known:
        return LaneStatus.OPEN
    if not lane_failed(lane, failed):
        return LaneStatus.PROCESSED if lane_processed(identity, saga, lane) else LaneStatus.OPEN
    states = {command_state(identity, saga, lane, item) for item in required}
    if states & {CommandState.PENDING, CommandState.EXHAUSTED}:
        return LaneStatus.UNDOING
    return LaneStatus.UNDONE if states <= {CommandState.CONFIRMED} else LaneStatus.SETTLED


def step_status(
    identity: SagaIdentity, saga: SagaState, lane: LaneState, key: StepKey, required: tuple[Compensation, ...]
) -> StepStatus:
    """Return the status of a step: from the command that undoes it, else from its facts.

    A step without a fact exists only because its undo is required, which proves that there was something to undo.
    """
    undo = identity.definition.undo_of.get(key)
    if undo is not None and undo in required:
        state = command_state(identity, saga, lane, undo)
        if state is CommandState.CONFIRMED:
            return StepStatus.COMPENSATED
        if state is CommandState.EXHAUSTED:
            return StepStatus.COMPENSATION_FAILED
        if state is CommandState.PENDING:
            return StepStatus.COMPENSATING
    facts = lane.steps.get(key)
    if facts is None:
        return StepStatus.COMPLETED
    status = RANK_STATUS[facts.rank]
    if status is StepStatus.STARTED and _has_outcome(identity, saga, lane, key):
        return StepStatus.COMPLETED
    return status


def step_keys(identity: SagaIdentity, lane: LaneState, required: tuple[Compensation, ...]) -> list[StepKey]:
    """Return the steps of a lane: those with facts, then those that exist only because their undo is required."""
    keys = list(lane.steps)
    for item in required:
        key = (item.undoes.type, item.undoes.service)
        if key not in lane.steps:
            keys.append(key)
    return keys


def count_lane(identity: SagaIdentity, saga: SagaState, lane: LaneState, failed: bool | None = None) -> SagaCounts:
    """Return what the lane adds to the counters of its saga.

    failed: whether the saga failed, if the caller knows it.
    """
    if failed is None:
        failed = saga_failed(identity, saga)
    if lane.known and lane_failed(lane, failed):
        return _count_failed_lane(identity, saga, lane)
    steps = len(lane.steps)
    failed_steps = [facts.rank for facts in lane.steps.values()].count(FAILED_RANK)
    if not lane.known:
        return SagaCounts(steps=steps, failed_steps=failed_steps)
    processed = int(lane_processed(identity, saga, lane))
    return SagaCounts(1, 1 - processed, processed, 0, 0, 0, 0, 0, 0, 0, steps, failed_steps)


def _count_failed_lane(identity: SagaIdentity, saga: SagaState, lane: LaneState) -> SagaCounts:
    required = required_compensations(identity, saga, lane, True)
    outcome = lane_status(identity, saga, lane, required, True)
    states = [command_state(identity, saga, lane, item) for item in required]
    shown = [step_status(identity, saga, lane, key, required) for key in step_keys(identity, lane, required)]
    return SagaCounts(
        known=1,
        undoing=int(outcome is LaneStatus.UNDOING),
        undone=int(outcome is LaneStatus.UNDONE),
        settled=int(outcome is LaneStatus.SETTLED),
        on_the_way=states.count(CommandState.PENDING),
        exhausted=states.count(CommandState.EXHAUSTED),
        confirmed=states.count(CommandState.CONFIRMED),
        given_up=states.count(CommandState.SKIPPED) + states.count(CommandState.WITHDRAWN),
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
