"""What follows from the state of a saga and its lanes: derived from the state, never from the last fact.

A `LaneView` is computed once for each state of a lane and read by everything else: the counters, the status, the rows
to be stored and the commands to be planned. Computing it any number of times gives the same: it says what is required,
not what to do next. Requirements are monotonic within a run: a compensation that is required once stays required,
unless a fact puts its lane into another run (`sagas.engine.runs`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import NamedTuple

from sagas.engine.definition import FACT_RANK, RANK_STATUS, Compensation, Confirmation, Definition, StepStatus
from sagas.engine.ids import is_uuid
from sagas.engine.state import (
    CommandFacts,
    CommandState,
    LaneState,
    LaneStatus,
    Mark,
    RunState,
    SagaCounts,
    SagaState,
    StepFacts,
    StepKey,
    least,
)

# The permanent id of each command: uuid5 of saga, entity and command in this namespace. Never change it.
COMMAND_NAMESPACE = uuid.UUID("6f1d5c0e-5b1b-5a57-9f0e-3d7f0c6f2a11")

LANE_SCOPE = "lane"
SAGA_SCOPE = "saga"

NO_FACTS = CommandFacts()
STARTED_RANK = FACT_RANK[StepStatus.STARTED]
FAILED_RANK = FACT_RANK[StepStatus.FAILED]
NO_COMMANDS: Mapping[str, CommandState] = {}
_NONE: frozenset[str] = frozenset()
# Looking up a member of an enum costs as much as a small function call, and these are read for each fact.
OPEN, PROCESSED, COMPLETED = LaneStatus.OPEN, LaneStatus.PROCESSED, StepStatus.COMPLETED

# What a step shows while the command that undoes it is in this state; in another state it shows its own facts.
_STATUS_OF_UNDO = {
    CommandState.CONFIRMED: StepStatus.COMPENSATED,
    CommandState.EXHAUSTED: StepStatus.COMPENSATION_FAILED,
    CommandState.PENDING: StepStatus.COMPENSATING,
}


class SagaIdentity(NamedTuple):
    """What is fixed at the birth of a saga."""

    definition: Definition
    scope: str
    saga_id: str
    key: str


def command_id(saga_id: str, entity: str, command: str) -> str:
    """Return the permanent id of a command."""
    return str(uuid.uuid5(COMMAND_NAMESPACE, f"{saga_id}:{entity}:{command}"))


def shape_problem(item: Compensation, entity: str, key: str) -> str:
    """Return why the service would refuse the form of this command's data, as the code of a reason; else empty."""
    for name in item.uuids:
        value = {"entity": entity, "key": key}[item.data[name]]
        if not is_uuid(value):
            return f"not-a-uuid:{name}"
    return ""


# --- the saga as a whole --------------------------------------------------------------------------------------------


class LaneContext(NamedTuple):
    """What a lane's view depends on in the state of its run. If it changes, all lanes of the run are viewed again.

    past: whether the run is not the latest one. since: when the latest run began.
    """

    failed: bool = False
    processed_all: bool = False
    processing_failed: bool = False
    claimed: frozenset[str] | None = None
    past: bool = False
    since: datetime | None = None


def lane_contexts(identity: SagaIdentity, saga: SagaState) -> tuple[LaneContext, ...]:
    """Return what the views of a saga's lanes depend on, for each of its runs."""
    *past, latest = saga.runs
    if not past:  # so most sagas
        return (_context(identity, latest),)
    of_past = (_context(identity, run, past=True, since=latest.began) for run in past)
    return (*of_past, _context(identity, latest, since=latest.began))


def _context(
    identity: SagaIdentity, run: RunState, *, past: bool = False, since: datetime | None = None
) -> LaneContext:
    failed = run_failure(identity, run) is not None
    return LaneContext(failed, run.processed_all, run.processing_failed, run.claimed, past, since)


def run_failure(identity: SagaIdentity, run: RunState) -> Mark | None:
    """Return what failed a run: its own failure, else (scope saga) the first of a lane or an upload."""
    if run.failure is not None or identity.scope != SAGA_SCOPE:
        return run.failure
    return least(run.lane_failure, run.upload_failure)


def saga_failed(identity: SagaIdentity, saga: SagaState) -> bool:
    """Return whether the latest run of the saga failed. Once true, true until a start opens another run."""
    return run_failure(identity, saga.runs[-1]) is not None


# --- one lane -------------------------------------------------------------------------------------------------------


class LaneView:
    """What follows from the state of one lane and its context. Never changes; computed once for each state.

    has_cause: whether something failed the lane, itself or with its run, other than that it was undone. failed: the
    same, or it was undone without a cause. processed: by an event of its own, or by one about all lanes. required: the
    required compensations, in the order of the definition. commands: the state of each required command. counts: what
    the lane adds to the counters of its saga. `steps` and `released` are computed when they are first read: most states
    are followed by another fact before they are stored.
    """

    __slots__ = (
        "_context",
        "_released",
        "_steps",
        "commands",
        "counts",
        "failed",
        "has_cause",
        "identity",
        "lane",
        "processed",
        "required",
        "status",
    )

    def __init__(self, identity: SagaIdentity, context: LaneContext, lane: LaneState) -> None:
        self.identity = identity
        self._context = context
        self._released: frozenset[str] | None = None
        self._steps: Mapping[StepKey, StepStatus] | None = None
        self.lane = lane
        self.has_cause = lane.known and (context.failed or lane.failure is not None or lane.forced is not None)
        self.failed = self.has_cause or (lane.known and bool(lane.commands) and _is_undone(identity.definition, lane))
        self.processed = lane.processed or (context.processed_all and _can_be_processed(identity.definition, lane))
        self.required: tuple[Compensation, ...] = ()
        self.commands: Mapping[str, CommandState] = NO_COMMANDS
        if self.failed:
            self.required = _required(identity.definition, lane)
            self.commands = {item.command: self._state_of(item) for item in self.required}
            self.status = _status_of_failed(self.commands)
            self.counts = self._counts_of_failed()
        else:
            self.status = PROCESSED if lane.known and self.processed else OPEN
            failed_steps = [facts.rank for facts in lane.steps.values()].count(FAILED_RANK)
            self.counts = _counts(lane.known, self.processed, len(lane.steps), failed_steps)

    @property
    def past(self) -> bool:
        """Whether the lane belongs to a run that is not the latest one."""
        return self._context.past

    @property
    def overtaken(self) -> frozenset[str]:
        """The commands that were carried out although nothing failed the lane in the run to which it belongs."""
        if self.has_cause or not self.commands or self._context.since is None:
            return _NONE
        return frozenset(command for command, state in self.commands.items() if state is CommandState.CONFIRMED)

    @property
    def released(self) -> frozenset[str]:
        """The required commands that may be published: every command before them in the lane is settled."""
        if self._released is None:
            waiting = (CommandState.PENDING, CommandState.EXHAUSTED)
            unsettled = {command for command, state in self.commands.items() if state in waiting}
            self._released = frozenset(item.command for item in self.required if unsettled.isdisjoint(item.after))
        return self._released

    @property
    def steps(self) -> Mapping[StepKey, StepStatus]:
        """The steps with their status: those with facts, then those that exist only because their undo is required."""
        if self._steps is None:
            keys = dict.fromkeys(self.lane.steps)
            keys.update(dict.fromkeys((item.undoes.type, item.undoes.service) for item in self.required))
            self._steps = {key: self._step_status(key) for key in keys}
        return self._steps

    def step_status(self, key: StepKey) -> StepStatus:
        """Return the status of one of the steps, without computing those of the others."""
        return self._step_status(key) if self._steps is None else self._steps[key]

    def undo_of(self, key: StepKey) -> Compensation | None:
        """Return the required compensation that undoes this step, or None."""
        undo = self.identity.definition.undo_of.get(key)
        return undo if undo is not None and undo.command in self.commands else None

    def _state_of(self, item: Compensation) -> CommandState:
        """Return the state of a required command.

        The first that applies: confirmed, skipped, withdrawn, exhausted in its current round, pending.
        """
        facts = self.lane.commands.get(item.command, NO_FACTS)
        if _is_done(item, facts):
            return CommandState.CONFIRMED
        if facts.skipped is not None:
            return CommandState.SKIPPED
        if facts.withdrawn is not None or self._withdrawn_by_termination(item):
            return CommandState.WITHDRAWN
        if facts.exhausted_round >= facts.round:
            return CommandState.EXHAUSTED
        return CommandState.PENDING

    def _withdrawn_by_termination(self, item: Compensation) -> bool:
        claimed = self._context.claimed
        return claimed is not None and command_id(self.identity.saga_id, self.lane.entity, item.command) not in claimed

    def _step_status(self, key: StepKey) -> StepStatus:
        """Return the status of a step: from the command that undoes it, else from its facts.

        A step without a fact exists only because its undo is required, which proves that there was something to undo.
        """
        undo = self.undo_of(key) if self.commands else None
        status_of_undo = _STATUS_OF_UNDO.get(self.commands[undo.command]) if undo is not None else None
        if status_of_undo is not None:
            return status_of_undo
        facts = self.lane.steps.get(key)
        if facts is None or (facts.rank == STARTED_RANK and self._has_outcome(key)):
            return COMPLETED
        return RANK_STATUS[facts.rank]

    def _has_outcome(self, key: StepKey) -> bool:
        definition = self.identity.definition
        awaited = definition.outcome_of.get(key)
        if awaited is None:
            return False
        since = None if self.lane.known else self._context.since
        for (type_, _service), facts in self.lane.steps.items():
            if (
                type_ == awaited
                and facts.rank > STARTED_RANK
                and (since is None or self._of_one_run(facts, key, since))
            ):
                return True
        if not self.lane.known or awaited not in definition.processing_steps:
            return False
        return self._context.processing_failed or self.processed

    def _of_one_run(self, outcome: StepFacts, key: StepKey, since: datetime) -> bool:
        """Return whether one of the saga's own steps and its outcome are of one run. since: when the latest began."""
        return outcome.occurred_at >= since or self.lane.steps[key].occurred_at < since

    def _counts_of_failed(self) -> SagaCounts:
        states = list(self.commands.values())
        shown = list(self.steps.values())
        return SagaCounts(
            known=1,
            undoing=int(self.status is LaneStatus.UNDOING),
            undone=int(self.status is LaneStatus.UNDONE),
            settled=int(self.status is LaneStatus.SETTLED),
            on_the_way=states.count(CommandState.PENDING),
            exhausted=states.count(CommandState.EXHAUSTED),
            confirmed=states.count(CommandState.CONFIRMED),
            given_up=states.count(CommandState.SKIPPED) + states.count(CommandState.WITHDRAWN),
            steps=len(shown),
            failed_steps=shown.count(StepStatus.FAILED) + shown.count(StepStatus.COMPENSATION_FAILED),
        )


def lane_mark(lane: LaneState) -> Mark | None:
    """Return what failed the lane itself: an event, a person, or an undo that a service confirmed without a failure.

    A command that a person marked as done undoes the lane without being a failure, also in failure scope saga.
    """
    mark = least(lane.failure, lane.forced)
    if not lane.commands:
        return mark
    for facts in lane.commands.values():
        if facts.confirmed is not None:
            mark = least(mark, facts.confirmed)
    return mark


def _is_undone(definition: Definition, lane: LaneState) -> bool:
    """Return whether something was undone in a lane, whether or not that is required."""
    known = definition.compensation_of
    return any(name in known and _is_done(known[name], facts) for name, facts in lane.commands.items())


def _is_done(item: Compensation, facts: CommandFacts) -> bool:
    """Return whether a command counts as carried out: by the service, by a person, or because it was sent."""
    if facts.confirmed is not None or facts.by_hand is not None:
        return True
    return item.confirmation is Confirmation.PUBLISHED and facts.published is not None


@cache
def _counts(known: bool, processed: bool, steps: int, failed_steps: int) -> SagaCounts:
    """Return what a lane that did not fail adds to the counters. Cached: there are as many results as step types."""
    if not known:
        return SagaCounts(steps=steps, failed_steps=failed_steps)
    return SagaCounts(
        known=1, open=int(not processed), processed=int(processed), steps=steps, failed_steps=failed_steps
    )


def _can_be_processed(definition: Definition, lane: LaneState) -> bool:
    """Return whether an event about all lanes processes this one."""
    return not definition.processed_needs or definition.processed_needs in lane.milestones


def _required(definition: Definition, lane: LaneState) -> tuple[Compensation, ...]:
    """Return the compensations that a failed lane requires."""
    milestones = lane.milestones
    return tuple(
        item for item in definition.compensations if not item.required_when or item.required_when in milestones
    )


def _status_of_failed(commands: Mapping[str, CommandState]) -> LaneStatus:
    states = set(commands.values())
    if states & {CommandState.PENDING, CommandState.EXHAUSTED}:
        return LaneStatus.UNDOING
    return LaneStatus.UNDONE if states <= {CommandState.CONFIRMED} else LaneStatus.SETTLED
