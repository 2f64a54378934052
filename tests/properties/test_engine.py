"""The theorem: the same facts, in any order, any batches, with any repeats, give the same saga.

How many examples each property gets is the profile's word (tests/properties/profiles.py).
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from datetime import datetime
from math import factorial

import pytest
from hypothesis import strategies as st

from sagas.engine import facts
from sagas.engine.decide import LaneView, command_id, lane_contexts, saga_failed
from sagas.engine.facts import Fact
from sagas.engine.fold import Fold, replay
from sagas.engine.state import SagaCounts, SagaState, lane_data, lane_from, saga_data, saga_from
from sagas.engine.status import status
from tests.properties.histories import Tale, image_tales, tales
from tests.properties.profiles import holds_for
from tests.properties.store import Store, assert_stored, views_in
from tests.stories import all_that_shows, folded, outcome_of, owed_in

ORDERS_TRIED = 50

# Not how fast this machine is, but whether it ends. Counting lines would take most of its time, and the tests that
# name what they expect go through all of them.
pytestmark = [pytest.mark.timeout(600), pytest.mark.no_cover]

seeds = st.integers(0, 2**32)


# --- order and repeats ----------------------------------------------------------------------------------------------


def orders(story: list[Fact], chance: random.Random) -> Iterator[list[Fact]]:
    """Every order of a short story, fifty of a longer one."""
    if factorial(min(len(story), 6)) <= ORDERS_TRIED:
        yield from map(list, itertools.permutations(story))
        return
    for _ in range(ORDERS_TRIED):
        yield chance.sample(story, k=len(story))


@holds_for(tales(), seeds)
def test_the_order_of_arrival_does_not_matter(tale: Tale, seed: int) -> None:
    fold = replay(*tale)
    state, shown = (fold.saga, fold.status, fold.lanes), all_that_shows(fold)
    for number, told in enumerate(orders(tale.facts, random.Random(seed))):
        fold = replay(tale.identity, told)
        assert (fold.saga, fold.status, fold.lanes) == state
        if number < 5:  # steps and commands are functions of the state
            assert all_that_shows(fold) == shown


@holds_for(tales(), seeds)
def test_repeats_among_the_others_do_not_matter(tale: Tale, seed: int) -> None:
    expected = folded(*tale)
    chance = random.Random(seed)
    for _ in range(3):
        told = tale.facts + chance.choices(tale.facts, k=len(tale.facts) // 2)
        chance.shuffle(told)
        assert folded(tale.identity, told) == expected


@holds_for(tales())
def test_a_repeat_changes_nothing_at_once(tale: Tale) -> None:
    fold = replay(*tale)
    before = all_that_shows(fold)
    fold.changed.clear()
    for fact in tale.facts:
        assert fold.apply(fact).keys() <= {"unclear"}, "which is about the event, not about the state"
    assert all_that_shows(fold) == before


# --- batches, as the applier folds them: only the lanes that are needed, through their rows -------------------------


@holds_for(tales(), seeds)
def test_batches_that_load_only_what_they_need_give_the_same(tale: Tale, seed: int) -> None:
    chance = random.Random(seed)
    store = Store(tale.identity)
    rest = tale.facts + chance.choices(tale.facts, k=len(tale.facts) // 4)
    while rest:
        size = chance.choice([1, 1, 2, 3, 10])
        batch, rest = rest[:size], rest[size:]
        store.fold(batch)
        now = store.load()
        assert store.steps == {entity: views_in(now, entity) for entity in now.lanes}
    assert_stored(store, replay(*tale))


@holds_for(tales(most=6))
def test_every_partition_of_a_short_story_gives_the_same(tale: Tale) -> None:
    whole = replay(*tale)
    count = len(tale.facts)
    for cuts in itertools.product((False, True), repeat=count - 1):
        store = Store(tale.identity)
        batch: list[Fact] = []
        for fact, cut in zip(tale.facts, (*cuts, True), strict=True):
            batch.append(fact)
            if cut:
                store.fold(batch)
                batch = []
        assert_stored(store, whole)


@holds_for(tales())
def test_bodies_are_read_only_where_the_definition_says_so(tale: Tale) -> None:
    identity, story = tale
    reads = {event.type for event in identity.definition.events if event.reads_content}
    bare = [fact if fact.source != facts.WIRE or fact.type in reads else fact._replace(content={}) for fact in story]
    assert folded(identity, bare) == folded(identity, story)


@holds_for(tales())
def test_the_state_goes_through_json(tale: Tale) -> None:
    fold = Fold(tale.identity, SagaState(), {})
    for fact in tale.facts:
        fold.apply(fact)
        saga = fold.saga
        assert saga_from(json.loads(json.dumps(saga_data(saga))), saga.counts) == saga
        for lane in fold.lanes.values():
            assert lane_from(lane.entity, lane.known, json.loads(json.dumps(lane_data(lane))), lane.steps) == lane


@holds_for(tales())
def test_counters_by_difference_are_the_sums(tale: Tale) -> None:
    fold = Fold(tale.identity, SagaState(), {})
    for fact in tale.facts:
        fold.apply(fact)
        total = past = SagaCounts()
        contexts = lane_contexts(tale.identity, fold.saga)
        for lane in fold.lanes.values():
            run = fold.saga.run_of(lane)
            counts = LaneView(tale.identity, contexts[run], lane).counts
            total = total.plus(counts)
            past = past if run == len(contexts) - 1 else past.plus(counts)
        assert fold.saga.counts == total
        assert fold.saga.past == past
        assert fold.status == status(tale.identity, fold.saga)


# --- what only grows ------------------------------------------------------------------------------------------------


def span_of(fold: Fold, entity: str) -> tuple[datetime | None, datetime | None]:
    """From when to when the run of a lane lies."""
    runs = [*(run.began for run in fold.saga.runs), None]
    number = fold.saga.run_of(fold.lanes[entity])
    return runs[number], runs[number + 1]


@holds_for(tales())
def test_nothing_becomes_unrequired_unfailed_or_unconfirmed_unless_its_run_moves(tale: Tale) -> None:
    """The one exception: a fact that opens a run (or takes one back), or that puts a lane into another run."""
    fold = Fold(tale.identity, SagaState(), {})
    required: set[tuple[str, str]] = set()
    confirmed: set[tuple[str, str]] = set()
    failed: set[str] = set()
    spans: dict[str, tuple[datetime | None, datetime | None]] = {}
    latest_had_failed, latest = False, None
    for fact in tale.facts:
        fold.apply(fact)
        holding = {(entity, name): held for entity in fold.lanes for name, held in owed_in(fold, entity).items()}
        known = [entity for entity, lane in fold.lanes.items() if lane.known]
        failed_now = {entity for entity in known if outcome_of(fold, entity) in ("undoing", "undone", "settled")}
        confirmed_now = {command for command, held in holding.items() if held == "confirmed"}
        spans_now = {entity: span_of(fold, entity) for entity in known}
        stayed = {entity for entity in known if spans.get(entity) == spans_now[entity]}
        assert {place for place in required if place[0] in stayed} <= holding.keys()
        assert failed & stayed <= failed_now
        assert {place for place in confirmed if place[0] in stayed} <= confirmed_now
        if fold.saga.latest.began == latest and len(spans_now) == len(spans) and spans_now == spans:
            assert saga_failed(tale.identity, fold.saga) or not latest_had_failed
        if not tale.identity.definition.restarts:
            assert len(stayed) >= len(spans), "nothing ever moves"
        required, failed, confirmed, spans = set(holding), failed_now, confirmed_now, spans_now
        latest_had_failed, latest = saga_failed(tale.identity, fold.saga), fold.saga.latest.began


@holds_for(tales())
def test_no_success_with_an_undo_unconfirmed(tale: Tale) -> None:
    fold = Fold(tale.identity, SagaState(), {})
    for fact in tale.facts:
        fold.apply(fact)
        if fold.status == "COMPENSATION_SUCCEEDED":
            latest = len(fold.saga.runs) - 1
            of_latest = [entity for entity, lane in fold.lanes.items() if fold.saga.run_of(lane) == latest]
            held = [held for entity in of_latest for held in owed_in(fold, entity).values()]
            assert held
            assert set(held) == {"confirmed"}
            everything = {held for entity in fold.lanes for held in owed_in(fold, entity).values()}
            assert not everything & {"on_the_way", "exhausted"}, "of earlier runs neither"


@holds_for(image_tales())
def test_each_failed_lane_requires_its_deletion_and_no_other_lane_requires_anything(tale: Tale) -> None:
    fold = replay(*tale)
    for entity, lane in fold.lanes.items():
        required = set(fold.view(entity).commands)
        lane_failed = lane.known and outcome_of(fold, entity) in ("undoing", "undone", "settled")
        assert ("DeleteRetrievedImage" in required) == lane_failed
        assert ("RollbackAnonymization" in required) == (lane_failed and "anonymized" in lane.milestones)


@holds_for(tales())
def test_deciding_twice_decides_once(tale: Tale) -> None:
    fold = replay(*tale)
    again = Fold(tale.identity, fold.saga, fold.lanes)
    for entity in fold.lanes:
        assert again.view(entity).commands == fold.view(entity).commands
    assert again.changed == {}
    assert again.change().lanes == ()


def test_a_commands_id_is_the_same_permanently() -> None:
    assert command_id("saga", "image", "DeleteRetrievedImage") == "1d320f0b-ca3e-59e3-8e09-df1463ec7b32"
