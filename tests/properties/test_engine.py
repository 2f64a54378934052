"""The theorem: the same facts, in any order, any batches, with any repeats, give the same saga."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagas.engine import facts
from sagas.engine.decide import Frame, command_id, decide, saga_failed, step_keys, tally
from sagas.engine.evolve import speaks_for_all, understand
from sagas.engine.facts import Fact
from sagas.engine.fold import Fold, replay
from sagas.engine.state import Lane, Saga, StepKey, Tally, lane_data, lane_from, saga_data, saga_from
from sagas.engine.status import status
from sagas.engine.view import StepView, step_view
from tests.properties.histories import FRAMES, stories
from tests.stories import MIDNIGHT, all_that_shows, folded, outcome_of, owed_in

frames = st.sampled_from(FRAMES)
seeds = st.integers(0, 2**32)
thorough = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --- order and repeats ----------------------------------------------------------------------------------------------


@thorough
@given(frames, stories(), seeds)
def test_order_and_repeats_do_not_matter(frame: Frame, story: list[Fact], seed: int) -> None:
    expected = folded(frame, story)
    chance = random.Random(seed)
    for _ in range(3):
        told = story + chance.choices(story, k=len(story) // 2)
        chance.shuffle(told)
        assert folded(frame, told) == expected


@settings(thorough, max_examples=40)
@given(frames, stories(most=5))
def test_every_order_of_a_short_story(frame: Frame, story: list[Fact]) -> None:
    expected = folded(frame, story)
    for told in itertools.permutations(story):
        assert folded(frame, told) == expected


@thorough
@given(frames, stories())
def test_a_repeat_changes_nothing_at_once(frame: Frame, story: list[Fact]) -> None:
    fold = replay(frame, story)
    before = all_that_shows(fold)
    fold.changed.clear()
    for fact in story:
        assert fold.apply(fact) == {}
    assert all_that_shows(fold) == before


# --- batches, as the applier folds them: only the lanes that are needed, through their rows -------------------------


class Store:
    """What a database keeps of a saga. A batch loads what its facts need and writes back what changed, nothing else."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.saga: str = json.dumps(saga_data(Saga()))
        self.counts = Tally()
        self.lanes: dict[str, tuple[bool, str]] = {}
        self.facts_of_steps: dict[str, Any] = {}
        self.shown: dict[str, Any] = {}
        self.outcomes: dict[str, str] = {}
        self.planned: dict[str, list[str]] = {}

    def load(self, needed: Sequence[str] | None) -> Fold:
        """The saga with these lanes, or with all."""
        entities = self.lanes if needed is None else [entity for entity in needed if entity in self.lanes]
        return Fold(
            self.frame,
            saga_from(json.loads(self.saga), self.counts),
            {entity: self._lane(entity) for entity in entities},
        )

    def fold(self, batch: Sequence[Fact]) -> None:
        """One transaction of the applier."""
        told = [(fact, understand(self.frame, fact)) for fact in batch]
        all_needed = any(speaks_for_all(self.frame, fact, said) for fact, said in told)
        needed = [entity for _, said in told for entity in said.touched]
        fold = self.load(None if all_needed else needed)
        for fact in batch:
            fold.apply(fact)
        self.saga, self.counts = json.dumps(saga_data(fold.saga)), fold.saga.counts
        for entity in fold.changed:
            self._write(fold, entity)

    def _lane(self, entity: str) -> Lane:
        known, data = self.lanes[entity]
        return lane_from(entity, known, json.loads(data), self.facts_of_steps[entity])

    def _write(self, fold: Fold, entity: str) -> None:
        lane = fold.lanes[entity]
        self.lanes[entity] = lane.known, json.dumps(lane_data(lane))
        self.facts_of_steps[entity] = lane.steps
        self.shown[entity] = views_in(fold, entity), owed_in(fold, entity)
        before = {item.command for item in fold.owed_before(entity)}
        new = [item.command for item in fold.owed(entity) if item.command not in before]
        self.planned.setdefault(entity, []).extend(new)
        if lane.known:
            self.outcomes[entity] = outcome_of(fold, entity)


def views_in(fold: Fold, entity: str) -> dict[StepKey, StepView]:
    """The rows of a lane's steps."""
    lane, owed = fold.lanes[entity], fold.owed(entity)
    keys = step_keys(fold.frame, lane, owed)
    return {key: step_view(fold.frame, fold.saga, lane, key, owed) for key in keys}


@settings(thorough, max_examples=600)
@given(frames, stories(), seeds)
def test_batches_that_load_only_what_they_need_give_the_same(frame: Frame, story: list[Fact], seed: int) -> None:
    chance = random.Random(seed)
    store = Store(frame)
    rest = story + chance.choices(story, k=len(story) // 4)
    while rest:
        size = chance.choice([1, 1, 2, 3, 10])
        batch, rest = rest[:size], rest[size:]
        store.fold(batch)
        now = store.load(None)
        assert store.shown == {entity: (views_in(now, entity), owed_in(now, entity)) for entity in now.lanes}
    whole = replay(frame, story)
    assert all_that_shows(store.load(None)) == all_that_shows(whole)
    assert store.shown == {entity: (views_in(whole, entity), owed_in(whole, entity)) for entity in whole.lanes}
    assert store.outcomes == {entity: outcome_of(whole, entity) for entity, lane in whole.lanes.items() if lane.known}
    for entity, planned in store.planned.items():
        assert len(planned) == len(set(planned)), "each undo is planned once"
        assert set(planned) == {item.command for item in whole.owed(entity)}


@thorough
@given(frames, stories())
def test_bodies_are_read_only_where_the_definition_says_so(frame: Frame, story: list[Fact]) -> None:
    reads = {event.type for event in frame.definition.events if event.reads_content}
    bare = [fact if fact.source != facts.WIRE or fact.type in reads else fact._replace(content={}) for fact in story]
    assert folded(frame, bare) == folded(frame, story)


@thorough
@given(frames, stories())
def test_the_state_goes_through_json(frame: Frame, story: list[Fact]) -> None:
    fold = Fold(frame, Saga(), {})
    for fact in story:
        fold.apply(fact)
        saga = fold.saga
        assert saga_from(json.loads(json.dumps(saga_data(saga))), saga.counts) == saga
        for lane in fold.lanes.values():
            assert lane_from(lane.entity, lane.known, json.loads(json.dumps(lane_data(lane))), lane.steps) == lane


@thorough
@given(frames, stories())
def test_counters_by_difference_are_the_sums(frame: Frame, story: list[Fact]) -> None:
    fold = Fold(frame, Saga(), {})
    for fact in story:
        fold.apply(fact)
        total = Tally()
        for lane in fold.lanes.values():
            total = total.plus(tally(frame, fold.saga, lane))
        assert fold.saga.counts == total


# --- what only grows ------------------------------------------------------------------------------------------------


@thorough
@given(frames, stories())
def test_nothing_becomes_unowed_unfailed_or_unconfirmed(frame: Frame, story: list[Fact]) -> None:
    fold = Fold(frame, Saga(), {})
    owed: set[tuple[str, str]] = set()
    confirmed: set[tuple[str, str]] = set()
    failed: set[str] = set()
    saga_has_failed = False
    for fact in story:
        fold.apply(fact)
        holding = {(entity, name): held for entity in fold.lanes for name, held in owed_in(fold, entity).items()}
        known = [entity for entity, lane in fold.lanes.items() if lane.known]
        failed_now = {entity for entity in known if outcome_of(fold, entity) in ("undoing", "undone", "settled")}
        confirmed_now = {command for command, held in holding.items() if held == "confirmed"}
        assert owed <= holding.keys()
        assert failed <= failed_now
        assert confirmed <= confirmed_now
        assert saga_failed(frame, fold.saga) or not saga_has_failed
        owed, failed, confirmed = set(holding), failed_now, confirmed_now
        saga_has_failed = saga_failed(frame, fold.saga)


@thorough
@given(frames, stories())
def test_no_success_with_an_undo_unconfirmed(frame: Frame, story: list[Fact]) -> None:
    fold = Fold(frame, Saga(), {})
    for fact in story:
        fold.apply(fact)
        if status(frame, fold.saga) == "COMPENSATION_SUCCEEDED":
            held = [held for entity in fold.lanes for held in owed_in(fold, entity).values()]
            assert held
            assert set(held) == {"confirmed"}


@thorough
@given(frames, stories())
def test_each_failed_lane_owes_its_deletion_and_no_other_lane_owes_anything(frame: Frame, story: list[Fact]) -> None:
    fold = replay(frame, story)
    for entity, lane in fold.lanes.items():
        owed = {item.command for item in fold.owed(entity)}
        lane_failed = lane.known and outcome_of(fold, entity) in ("undoing", "undone", "settled")
        assert ("DeleteRetrievedImage" in owed) == lane_failed
        assert ("RollbackAnonymization" in owed) == (lane_failed and "anonymized" in lane.milestones)


@thorough
@given(frames, stories())
def test_deciding_twice_decides_once(frame: Frame, story: list[Fact]) -> None:
    fold = replay(frame, story)
    again = Fold(frame, fold.saga, fold.lanes)
    for entity, lane in fold.lanes.items():
        assert decide(frame, fold.saga, lane) == decide(frame, fold.saga, lane) == again.owed_before(entity)
    assert again.changed == {}


# --- the services of the model, over a wire that loses, repeats and delays ------------------------------------------


@settings(thorough, max_examples=150)
@given(frames, st.integers(1, 4), seeds)
def test_with_services_that_answer_in_the_end_all_is_undone_or_shown(frame: Frame, images: int, seed: int) -> None:
    chance = random.Random(seed)
    wire = _script(images, chance)
    fold = Fold(frame, Saga(), {})
    rounds: dict[str, int] = {}
    said: list[Fact] = []
    for turn in range(1000):
        if wire:
            said.append(wire.pop(chance.randrange(min(3, len(wire)))))
            fold.apply(said[-1])
            if chance.random() < 0.2:
                wire.append(said[-1])
        asked = [
            (entity, name)
            for entity in fold.lanes
            for name, held in owed_in(fold, entity).items()
            if held == "on_the_way"
        ]
        if not wire and not asked:
            break
        for entity, name in asked:
            if chance.random() < 0.3:
                wire.append(_answer(entity, name, turn, rounds, chance))
    shown = all_that_shows(replay(frame, said))
    assert shown == all_that_shows(fold)
    held = {held for owed in shown["owed"].values() for held in owed.values()}
    assert "on_the_way" not in held
    assert (shown["status"] == "COMPENSATION_FAILED") == ("exhausted" in held)
    assert shown["status"] not in ("COMPENSATING", "STARTED")


def _script(images: int, chance: random.Random) -> list[Fact]:
    """What the three services do by themselves to a task of so many images, some of which fail."""
    from tests.stories import Story, image

    story = Story().retrieved(*[image(number) for number in range(images)]).announced(images)
    for number in range(images):
        outcome = chance.choice(["processed", "processed", "failed", "late"])
        if outcome == "failed":
            story.failed(image(number))
        else:
            story.processed(image(number))
        if outcome == "late":
            story.happens("ProcessingFailed", image(number), error_message="late")
    return story.facts


def _answer(entity: str, name: str, turn: int, rounds: dict[str, int], chance: random.Random) -> Fact:
    """A confirmation, or the news that nobody answered."""
    number = f"{turn}-{entity}-{name}"
    if chance.random() < 0.1:
        content = {"name": name, "round": 1}
        return Fact(number, facts.COMMAND_EXHAUSTED, MIDNIGHT, facts.COMPENSATION, entity, content=content)
    confirms = {"DeleteRetrievedImage": "ImageDeletionCompleted", "RollbackAnonymization": "AnonymizationRolledBack"}
    return Fact(number, confirms[name], MIDNIGHT, entity=entity)


def test_a_commands_id_is_the_same_for_ever() -> None:
    assert command_id("saga", "image", "DeleteRetrievedImage") == "1d320f0b-ca3e-59e3-8e09-df1463ec7b32"
