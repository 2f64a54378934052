"""What is owed, and what holds of it: read from the state, never from the last fact.

Running `decide` twice plans nothing twice: it says what is owed, not what to do. What is owed never becomes un-owed.
"""

from __future__ import annotations

import re
import uuid
from typing import NamedTuple

from sagas.engine.definition import FACT_RANK, RANK_STATUS, Compensation, Confirmation, Definition, StepStatus
from sagas.engine.state import CommandFacts, Holds, Lane, Mark, Outcome, Saga, StepKey, Tally, least

# Every command's id for ever: uuid5 of saga, entity and command under this name space.
COMMAND_NAMESPACE = uuid.UUID("6f1d5c0e-5b1b-5a57-9f0e-3d7f0c6f2a11")

LANE_SCOPE = "lane"
SAGA_SCOPE = "saga"

NOTHING_SAID = CommandFacts()
FAILED_RANK = FACT_RANK[StepStatus.FAILED]
UUID_SHAPE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Frame(NamedTuple):
    """What was frozen at a saga's birth."""

    definition: Definition
    scope: str
    saga_id: str
    key: str


def command_id(saga_id: str, entity: str, command: str) -> str:
    """The one id of a command, for ever."""
    return str(uuid.uuid5(COMMAND_NAMESPACE, f"{saga_id}:{entity}:{command}"))


def saga_failure(frame: Frame, saga: Saga) -> Mark | None:
    """What failed the saga: its own failure, else (where lanes fail the saga) the first of a lane or an upload."""
    if saga.failure is not None or frame.scope != SAGA_SCOPE:
        return saga.failure
    return least(saga.lane_failure, saga.upload_failure)


def saga_failed(frame: Frame, saga: Saga) -> bool:
    """Whether the saga failed. Sticky."""
    return saga_failure(frame, saga) is not None


def lane_mark(lane: Lane) -> Mark | None:
    """What failed the lane by itself: a fact, a person, or an undo that somebody else did though nothing had failed."""
    mark = least(lane.failure, lane.forced)
    if not lane.commands:
        return mark
    for facts in lane.commands.values():
        if facts.confirmed is not None:
            mark = least(mark, facts.confirmed)
    return mark


def lane_failed(lane: Lane, failed: bool) -> bool:
    """Whether the lane failed, by itself or with its saga (`failed`). Sticky."""
    if failed or lane.failure is not None or lane.forced is not None:
        return True
    return bool(lane.commands) and any(facts.confirmed is not None for facts in lane.commands.values())


def lane_processed(frame: Frame, saga: Saga, lane: Lane) -> bool:
    """Whether the lane is through: by a fact of its own, or by one that spoke for all that had come so far."""
    if lane.processed or not saga.processed_all:
        return lane.processed
    needs = frame.definition.processed_needs
    return not needs or needs in lane.milestones


def decide(frame: Frame, saga: Saga, lane: Lane, failed: bool | None = None) -> tuple[Compensation, ...]:
    """The commands owed in a lane, in the definition's order; `failed` is the saga's, where the caller knows it."""
    if not lane.known:
        return ()
    if not lane_failed(lane, saga_failed(frame, saga) if failed is None else failed):
        return ()
    return tuple(
        item for item in frame.definition.compensations if not item.owed_when or item.owed_when in lane.milestones
    )


def holds(frame: Frame, saga: Saga, lane: Lane, item: Compensation) -> Holds:
    """What holds of an owed command: confirmed, else given up, else exhausted in its current round, else on its way."""
    facts = lane.commands.get(item.command, NOTHING_SAID)
    if facts.confirmed is not None or facts.by_hand is not None:
        return Holds.CONFIRMED
    if item.confirmation is Confirmation.PUBLISHED and facts.published is not None:
        return Holds.CONFIRMED
    if facts.skipped is not None:
        return Holds.SKIPPED
    if facts.withdrawn is not None or _withdrawn_by_termination(frame, saga, lane, item):
        return Holds.WITHDRAWN
    if facts.exhausted_round >= facts.round:
        return Holds.EXHAUSTED
    return Holds.ON_THE_WAY


def released(frame: Frame, saga: Saga, lane: Lane, owed: tuple[Compensation, ...]) -> tuple[str, ...]:
    """Which owed commands may be published: those whose predecessors in the lane are all answered."""
    waiting = {item.command for item in owed if holds(frame, saga, lane, item) in (Holds.ON_THE_WAY, Holds.EXHAUSTED)}
    return tuple(item.command for item in owed if waiting.isdisjoint(item.after))


def unfit(item: Compensation, entity: str, key: str) -> str:
    """Why the service would refuse this command for its shape, in words; empty when it would not."""
    for name in item.uuids:
        value = {"entity": entity, "key": key}[item.data[name]]
        if not UUID_SHAPE.fullmatch(value.lower()):
            return f"{item.service} takes only a UUID as {name}, and this one has another shape: undo it by hand"
    return ""


def outcome(frame: Frame, saga: Saga, lane: Lane, owed: tuple[Compensation, ...], failed: bool) -> Outcome:
    """What became of a lane. One that nobody knows, of which only people spoke, is open whatever became of its saga."""
    if not lane.known:
        return Outcome.OPEN
    if not lane_failed(lane, failed):
        return Outcome.PROCESSED if lane_processed(frame, saga, lane) else Outcome.OPEN
    answers = {holds(frame, saga, lane, item) for item in owed}
    if answers & {Holds.ON_THE_WAY, Holds.EXHAUSTED}:
        return Outcome.UNDOING
    return Outcome.UNDONE if answers <= {Holds.CONFIRMED} else Outcome.SETTLED


def step_status(frame: Frame, saga: Saga, lane: Lane, key: StepKey, owed: tuple[Compensation, ...]) -> StepStatus:
    """What a step shows: the answer of the command that undoes it, else what its facts say.

    A step that only a command made has no fact: that the command is owed proves that there was something to undo.
    """
    undo = frame.definition.undo_of.get(key)
    if undo is not None and undo in owed:
        held = holds(frame, saga, lane, undo)
        if held is Holds.CONFIRMED:
            return StepStatus.COMPENSATED
        if held is Holds.EXHAUSTED:
            return StepStatus.COMPENSATION_FAILED
        if held is Holds.ON_THE_WAY:
            return StepStatus.COMPENSATING
    facts = lane.steps.get(key)
    if facts is None:
        return StepStatus.COMPLETED
    status = RANK_STATUS[facts.rank]
    if status is StepStatus.STARTED and _has_outcome(frame, saga, lane, key):
        return StepStatus.COMPLETED
    return status


def step_keys(frame: Frame, lane: Lane, owed: tuple[Compensation, ...]) -> list[StepKey]:
    """The steps that a lane has: those that facts made, and those that a command made."""
    keys = list(lane.steps)
    for item in owed:
        key = (item.undoes.type, item.undoes.service)
        if key not in lane.steps:
            keys.append(key)
    return keys


def tally(frame: Frame, saga: Saga, lane: Lane, failed: bool | None = None) -> Tally:
    """What the lane adds to its saga's counters; `failed` is the saga's, where the caller knows it."""
    if failed is None:
        failed = saga_failed(frame, saga)
    if lane.known and lane_failed(lane, failed):
        return _failed_tally(frame, saga, lane)
    steps = len(lane.steps)
    failed_steps = [facts.rank for facts in lane.steps.values()].count(FAILED_RANK)
    if not lane.known:
        return Tally(steps=steps, failed_steps=failed_steps)
    processed = int(lane_processed(frame, saga, lane))
    return Tally(1, 1 - processed, processed, 0, 0, 0, 0, 0, 0, 0, steps, failed_steps)


def _failed_tally(frame: Frame, saga: Saga, lane: Lane) -> Tally:
    owed = decide(frame, saga, lane, True)
    became = outcome(frame, saga, lane, owed, True)
    held = [holds(frame, saga, lane, item) for item in owed]
    shown = [step_status(frame, saga, lane, key, owed) for key in step_keys(frame, lane, owed)]
    return Tally(
        known=1,
        undoing=int(became is Outcome.UNDOING),
        undone=int(became is Outcome.UNDONE),
        settled=int(became is Outcome.SETTLED),
        on_the_way=held.count(Holds.ON_THE_WAY),
        exhausted=held.count(Holds.EXHAUSTED),
        confirmed=held.count(Holds.CONFIRMED),
        given_up=held.count(Holds.SKIPPED) + held.count(Holds.WITHDRAWN),
        steps=len(shown),
        failed_steps=shown.count(StepStatus.FAILED) + shown.count(StepStatus.COMPENSATION_FAILED),
    )


def _withdrawn_by_termination(frame: Frame, saga: Saga, lane: Lane, item: Compensation) -> bool:
    if saga.claimed is None:
        return False
    return command_id(frame.saga_id, lane.entity, item.command) not in saga.claimed


def _has_outcome(frame: Frame, saga: Saga, lane: Lane, key: StepKey) -> bool:
    awaited = frame.definition.outcome_of.get(key)
    if awaited is None:
        return False
    if any(step_type == awaited and facts.rank > 1 for (step_type, _), facts in lane.steps.items()):
        return True
    if not lane.known or awaited not in frame.definition.processing_steps:
        return False
    return saga.processing_failed or lane_processed(frame, saga, lane)
