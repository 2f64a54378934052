"""What a database keeps of a saga: the applier's batches without a database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sagas.engine.decide import SagaIdentity, step_keys
from sagas.engine.evolve import interpret, needs_all_lanes
from sagas.engine.facts import Fact
from sagas.engine.fold import Fold
from sagas.engine.state import LaneState, SagaCounts, SagaState, StepKey, lane_data, lane_from, saga_data, saga_from
from sagas.engine.view import StepView, step_view
from tests.stories import all_that_shows, outcome_of, owed_in


class Store:
    """A batch loads what its facts need, through the data of its rows, and writes back what changed, nothing else."""

    def __init__(self, identity: SagaIdentity) -> None:
        self.identity = identity
        self.saga: str = json.dumps(saga_data(SagaState()))
        self.counts = SagaCounts()
        self.lanes: dict[str, tuple[bool, str]] = {}
        self.facts_of_steps: dict[str, Any] = {}
        self.shown: dict[str, Any] = {}
        self.outcomes: dict[str, str] = {}
        self.planned: dict[str, list[str]] = {}

    def load(self, needed: Sequence[str] | None = None) -> Fold:
        """The saga with these lanes, or with all."""
        entities = self.lanes if needed is None else [entity for entity in needed if entity in self.lanes]
        return Fold(
            self.identity,
            saga_from(json.loads(self.saga), self.counts),
            {entity: self._lane(entity) for entity in entities},
        )

    def fold(self, batch: Sequence[Fact]) -> None:
        """One transaction of the applier."""
        told = [(fact, interpret(self.identity, fact)) for fact in batch]
        all_needed = any(needs_all_lanes(self.identity, fact, said) for fact, said in told)
        needed = [entity for _, said in told for entity in said.touched]
        fold = self.load(None if all_needed else needed)
        for fact in batch:
            fold.apply(fact)
        self.saga, self.counts = json.dumps(saga_data(fold.saga)), fold.saga.counts
        for entity in fold.changed:
            self._write(fold, entity)

    def _lane(self, entity: str) -> LaneState:
        known, data = self.lanes[entity]
        return lane_from(entity, known, json.loads(data), self.facts_of_steps[entity])

    def _write(self, fold: Fold, entity: str) -> None:
        lane = fold.lanes[entity]
        self.lanes[entity] = lane.known, json.dumps(lane_data(lane))
        self.facts_of_steps[entity] = lane.steps
        self.shown[entity] = views_in(fold, entity), owed_in(fold, entity)
        before = {item.command for item in fold.required_before(entity)}
        new = [item.command for item in fold.required(entity) if item.command not in before]
        self.planned.setdefault(entity, []).extend(new)
        if lane.known:
            self.outcomes[entity] = outcome_of(fold, entity)


def views_in(fold: Fold, entity: str) -> dict[StepKey, StepView]:
    """The rows of a lane's steps."""
    lane, required = fold.lanes[entity], fold.required(entity)
    keys = step_keys(fold.identity, lane, required)
    return {key: step_view(fold.identity, fold.saga, lane, key, required) for key in keys}


def assert_stored(store: Store, whole: Fold) -> None:
    """What batches left behind is what the fold of all facts at once comes to, and each undo was planned once."""
    assert all_that_shows(store.load()) == all_that_shows(whole)
    assert store.shown == {entity: (views_in(whole, entity), owed_in(whole, entity)) for entity in whole.lanes}
    assert store.outcomes == {entity: outcome_of(whole, entity) for entity, lane in whole.lanes.items() if lane.known}
    for entity, planned in store.planned.items():
        assert len(planned) == len(set(planned)), "each undo is planned once"
        assert set(planned) == {item.command for item in whole.required(entity)}
