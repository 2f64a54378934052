"""What one fold changed in a saga, as values: everything that a store must write. A store asks the engine nothing.

A change compares two states, never a state with rows: a store that may hold other rows (a repair) takes the change from
nothing, which contains everything, and compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sagas.engine.decide import (
    NO_FACTS,
    STARTED_RANK,
    LaneView,
    SagaIdentity,
    command_id,
    shape_problem,
)
from sagas.engine.definition import Compensation, Event
from sagas.engine.facts import Fact
from sagas.engine.state import CommandState, Mark, RunState, SagaState, SagaStatus, StepKey, lane_data, least, saga_data
from sagas.engine.status import error_message
from sagas.engine.step_view import StepView, step_view

# Characters of a service's reason for refusing a command that the command keeps.
REFUSAL_LIMIT = 500


class SagaDetails(NamedTuple):
    """What few facts change in the row of a saga. `state`: as JSON data, without the time of the last event."""

    started_at: datetime | None
    error: str | None
    state: Mapping[str, Any]


class LaneValues(NamedTuple):
    """The values of a lane's row. `state`: as JSON data."""

    known: bool
    failed: bool
    outcome: str
    opened_at: datetime | None
    state: Mapping[str, Any]


class CommandAnswer(NamedTuple):
    """What settles a command, or retries it: `round` is then the number of the round that begins, else 0."""

    command_id: str
    status: Literal["confirmed", "skipped", "withdrawn", "retried"]
    at: datetime
    event_id: str = ""
    by_hand: bool = False
    round: int = 0


class RequiredCommand(NamedTuple):
    """A required command. `problem`: why the service would refuse its form; `answer`: what settled it, or None."""

    compensation: Compensation
    entity: str
    id: str
    state: CommandState
    released: bool
    problem: str
    confirmed: Mark | None  # the earliest fact that confirmed it
    confirmed_by_service: bool
    answer: CommandAnswer | None


class Refusal(NamedTuple):
    """A service's answer that it could not do a compensation this time."""

    command_id: str
    error: str
    at: datetime
    event_id: str


@dataclass(frozen=True, slots=True)
class LaneChange:
    """What changed in one lane, or in the steps of the saga itself.

    values: of its row; None if it only holds steps. steps: those that may be shown otherwise than before. planned: the
    commands that must be planned, or be planned again under the same id. answers: what facts report about the others.
    released: the ids of the others that may be published only now. not_required: the ids of the commands that were
    required before: only a fact that puts the lane into another run ends a requirement. gone: the steps that existed
    only because of these commands. overtaken: the ids of the commands that now are (`LaneView.overtaken`) and were not;
    prompted: of those that were and now are not.
    """

    entity: str
    values: LaneValues | None
    steps: tuple[tuple[StepKey, StepView], ...]
    planned: tuple[RequiredCommand, ...] = ()
    answers: tuple[CommandAnswer, ...] = ()
    released: tuple[str, ...] = ()
    not_required: tuple[str, ...] = ()
    gone: tuple[StepKey, ...] = ()
    overtaken: tuple[str, ...] = ()
    prompted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SagaChange:
    """What the facts of one fold changed in a saga.

    correlation: its correlation id, which is its key if no event gave one. counted: by how much its counters changed,
    by name. details: None if only its lanes, its counters and the time of its last event changed. notes: one for each
    fact, for the timeline.
    """

    identity: SagaIdentity
    saga: SagaState
    status: SagaStatus
    correlation: str
    end_time: datetime | None
    counted: Mapping[str, int]
    details: SagaDetails | None
    lanes: tuple[LaneChange, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[Mapping[str, Any], ...]


def saga_details(identity: SagaIdentity, saga: SagaState) -> SagaDetails:
    """Return the values of the saga's row that few facts change."""
    state = saga_data(saga)
    state.pop("last_at", None)  # stored in a column of its own, because the rest of the state seldom changes
    return SagaDetails(
        saga.started.occurred_at if saga.started else saga.last_at,
        error_message(identity, saga),
        state,
    )


def lane_change(before: LaneView | None, view: LaneView, saga: SagaState) -> LaneChange:
    """Return what changed in a lane. before: None if there was no such lane. saga: the saga after the facts."""
    before_commands = before.commands if before is not None else {}
    planned = [
        item for item in view.required if _is_new(before_commands.get(item.command), view.commands[item.command])
    ]
    change = LaneChange(
        entity=view.lane.entity,
        values=_values(view),
        steps=tuple(_steps(before, view)),
        planned=tuple(required_command(view, item, saga) for item in planned),
        overtaken=_ids(view, view.overtaken - (before.overtaken if before is not None else frozenset())),
    )
    if before is None or not before.required:  # so most lanes: nothing is required in them
        return change
    still = [item for item in before.required if item.command in view.commands and item not in planned]
    return replace(
        change,
        answers=tuple(answer for item in still for answer in _answers(before, view, item, saga)),
        released=tuple(
            _id(view, item) for item in still if item.command in view.released and item.command not in before.released
        ),
        not_required=tuple(_id(view, item) for item in before.required if item.command not in view.commands),
        gone=tuple(key for key in before.steps if key not in view.steps),
        prompted=_ids(view, before.overtaken - view.overtaken),
    )


def _is_new(before: CommandState | None, now: CommandState) -> bool:
    """Return whether a command must be planned: it was not required before, or its withdrawal no longer counts.

    A termination withdraws the commands of its run. A lane that is put into another run is not affected any more.
    """
    return before is None or (
        before is CommandState.WITHDRAWN and now in (CommandState.PENDING, CommandState.EXHAUSTED)
    )


def required_command(view: LaneView, item: Compensation, saga: SagaState) -> RequiredCommand:
    """Return one of the required commands of a lane."""
    facts = view.lane.commands.get(item.command, NO_FACTS)
    state = view.commands[item.command]
    mark = least(facts.confirmed, facts.by_hand) or facts.published
    return RequiredCommand(
        item,
        view.lane.entity,
        _id(view, item),
        state,
        released=item.command in view.released,
        problem=shape_problem(item, view.lane.entity, view.identity.key),
        confirmed=mark if state is CommandState.CONFIRMED else None,
        confirmed_by_service=mark is not None and mark == facts.confirmed,
        answer=_answer(view, item, saga),
    )


def refusal(identity: SagaIdentity, event: Event, command: str, fact: Fact) -> Refusal:
    """Return a service's refusal of a command."""
    text = fact.content.get(event.error_in)
    return Refusal(
        command_id(identity.saga_id, fact.names, command),
        text[:REFUSAL_LIMIT] if isinstance(text, str) else "",
        fact.occurred_at,
        fact.id,
    )


def _values(view: LaneView) -> LaneValues | None:
    lane = view.lane
    if not lane.known and not lane.commands and lane.forced is None:
        return None
    return LaneValues(lane.known, view.failed, view.status.value, lane.opened_at, lane_data(lane))


def _steps(before: LaneView | None, view: LaneView) -> Iterator[tuple[StepKey, StepView]]:
    """Yield the steps that may be shown otherwise: all of a lane with commands, else those with other facts or status.

    Without commands only a step without an outcome can get another status without a fact of its own.
    """
    if before is None or before.required or view.required or view.lane.commands:
        yield from ((key, step_view(view, key)) for key in view.steps)
        return
    for key, facts in view.lane.steps.items():
        same_facts = before.lane.steps.get(key) is facts
        if same_facts and (facts.rank != STARTED_RANK or before.step_status(key) is view.step_status(key)):
            continue
        yield key, step_view(view, key)


def _answers(before: LaneView, view: LaneView, item: Compensation, saga: SagaState) -> Iterator[CommandAnswer]:
    """Yield what the facts report about a command that was required before."""
    facts_before = before.lane.commands.get(item.command, NO_FACTS)
    facts = view.lane.commands.get(item.command, NO_FACTS)
    if facts.round > facts_before.round:
        assert saga.last_at is not None  # a fact changed it
        yield CommandAnswer(_id(view, item), "retried", saga.last_at, round=facts.round)
    if view.commands[item.command] is before.commands[item.command] and facts.answers == facts_before.answers:
        return
    answer = _answer(view, item, saga)
    if answer is not None:
        yield answer


def _answer(view: LaneView, item: Compensation, saga: SagaState) -> CommandAnswer | None:
    """Return what settled a required command, or None if it is not settled."""
    facts = view.lane.commands.get(item.command, NO_FACTS)
    state = view.commands[item.command]
    if state is CommandState.CONFIRMED:
        by_hand = facts.confirmed is None and facts.by_hand is not None
        return _answered(view, item, "confirmed", facts.confirmed or facts.by_hand or facts.published, by_hand)
    if state is CommandState.SKIPPED:
        return _answered(view, item, "skipped", facts.skipped, by_hand=True)
    if state is CommandState.WITHDRAWN:
        return _answered(view, item, "withdrawn", facts.withdrawn or _run(view, saga).failure, by_hand=True)
    return None


def _run(view: LaneView, saga: SagaState) -> RunState:
    return saga.runs[saga.run_of(view.lane)]


def _answered(
    view: LaneView,
    item: Compensation,
    status: Literal["confirmed", "skipped", "withdrawn"],
    mark: Mark | None,
    by_hand: bool,
) -> CommandAnswer:
    assert mark is not None  # a fact brought the command into this state
    return CommandAnswer(_id(view, item), status, mark.occurred_at, mark.event_id, by_hand)


def _ids(view: LaneView, commands: Iterable[str]) -> tuple[str, ...]:
    return tuple(command_id(view.identity.saga_id, view.lane.entity, command) for command in sorted(commands))


def _id(view: LaneView, item: Compensation) -> str:
    return command_id(view.identity.saga_id, view.lane.entity, item.command)
