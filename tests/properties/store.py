"""What a database keeps of a saga: the applier's batches without a database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sagas.engine.change import LaneChange, SagaChange
from sagas.engine.decide import SagaIdentity, command_id
from sagas.engine.evolve import interpret, needs_all_lanes
from sagas.engine.facts import Fact
from sagas.engine.fold import Fold, LogNeeded
from sagas.engine.state import LaneState, SagaCounts, SagaState, StepKey, lane_data, lane_from, saga_data, saga_from
from sagas.engine.step_view import StepView, step_view
from tests.stories import all_that_shows, outcome_of, owed_in

# What a command's row keeps of its state: the outbox itself knows whether it is out of attempts.
ANSWERED = ("confirmed", "skipped", "withdrawn")


class Store:
    """A batch loads what its facts need, through the data of its rows, and writes what changed, nothing else."""

    def __init__(self, identity: SagaIdentity) -> None:
        self.identity = identity
        self.saga: str = json.dumps(saga_data(SagaState()))
        self.last_at: datetime | None = None
        self.counts = SagaCounts()
        self.lanes: dict[str, tuple[bool, str]] = {}
        self.facts_of_steps: dict[str, Any] = {}
        self.steps: dict[str, dict[StepKey, StepView]] = {}
        self.outcomes: dict[str, str] = {}
        self.planned: dict[str, list[str]] = {}
        self.answers: dict[str, str] = {}
        self.released: set[str] = set()
        self.overtaken: set[str] = set()
        self.log: dict[tuple[str, str], Fact] = {}
        self.logs_read = 0

    def load(self, needed: Sequence[str] | None = None, *, logged: bool = False) -> Fold:
        """The saga with these lanes, or with all; with its log if a fact needs it."""
        entities = self.lanes if needed is None else [entity for entity in needed if entity in self.lanes]
        return Fold(
            self.identity,
            saga_from(json.loads(self.saga), self.counts, self.last_at),
            {entity: self._lane(entity) for entity in entities},
            self.log.values() if logged else None,
        )

    def fold(self, batch: Sequence[Fact]) -> None:
        """One transaction of the applier."""
        told = [(fact, interpret(self.identity, fact)) for fact in batch]
        all_needed = any(needs_all_lanes(self.identity, fact, said) for fact, said in told)
        needed = [entity for _, said in told for entity in said.touched]
        fold = self.load(None if all_needed else needed)
        try:
            fold.apply_all(told)
        except LogNeeded:
            self.logs_read += 1
            fold = self.load(logged=True)
            fold.apply_all(told)
        self.log |= {(fact.source, fact.id): fact for fact in batch}
        change = fold.change()
        self._write_saga(change)
        for lane in change.lanes:
            self._write_lane(lane, fold.lanes[lane.entity])

    def _lane(self, entity: str) -> LaneState:
        known, data = self.lanes[entity]
        return lane_from(entity, known, json.loads(data), self.facts_of_steps[entity])

    def _write_saga(self, change: SagaChange) -> None:
        if change.details is not None:
            self.saga = json.dumps(change.details.state)
        self.last_at = change.saga.last_at
        self.counts = SagaCounts(**{n: was + change.counted.get(n, 0) for n, was in self.counts._asdict().items()})

    def _write_lane(self, change: LaneChange, lane: LaneState) -> None:
        entity, values = change.entity, change.values
        self.lanes[entity] = lane.known, json.dumps(lane_data(lane) if values is None else values.state)
        self.facts_of_steps[entity] = lane.steps
        self.steps.setdefault(entity, {}).update(change.steps)
        for key in change.gone:
            del self.steps[entity][key]
        if values is not None and values.known:
            self.outcomes[entity] = values.outcome
        ended = set(change.not_required)
        self.planned[entity] = [
            name
            for name in self.planned.get(entity, [])
            if command_id(self.identity.saga_id, entity, name) not in ended
        ]
        self.answers = {id_: state for id_, state in self.answers.items() if id_ not in ended}
        self.released -= ended
        again = {command.compensation.command for command in change.planned}
        self.planned[entity] = [name for name in self.planned[entity] if name not in again] + sorted(again)
        self.answers |= {command.id: command.state.value for command in change.planned}
        for answer in change.answers:
            if answer.status in ANSWERED or self.answers[answer.command_id] not in ANSWERED:
                self.answers[answer.command_id] = answer.status  # a retry does not revive an answered command
        self.released |= {command.id for command in change.planned if command.released}
        self.released |= set(change.released)
        assert not set(change.overtaken) & set(change.prompted)
        self.overtaken = (self.overtaken | set(change.overtaken)) - set(change.prompted)


def views_in(fold: Fold, entity: str) -> dict[StepKey, StepView]:
    """The rows of a lane's steps."""
    return {key: step_view(fold.view(entity), key) for key in fold.view(entity).steps}


def assert_stored(store: Store, whole: Fold) -> None:
    """What batches left behind is what the fold of all facts at once comes to, and each undo was planned once."""
    assert all_that_shows(store.load()) == all_that_shows(whole)
    assert store.steps == {entity: views_in(whole, entity) for entity in whole.lanes}
    assert store.outcomes == {entity: outcome_of(whole, entity) for entity, lane in whole.lanes.items() if lane.known}
    for entity, planned in store.planned.items():
        assert len(planned) == len(set(planned)), "each undo is planned once"
        assert set(planned) == set(owed_in(whole, entity))
    required = [command for lane in whole.change().lanes for command in lane.planned]
    assert store.answers.keys() == {command.id for command in required}, "nothing is answered that is not planned"
    for command in required:
        stored = store.answers[command.id]
        assert (stored if stored in ANSWERED else None) == (command.answer.status if command.answer else None)
    assert store.overtaken == {id_ for lane in whole.change().lanes for id_ in lane.overtaken}
    # A command that was released before a predecessor of it became required stays released in the outbox.
    assert store.released >= {command.id for command in required if command.released}
