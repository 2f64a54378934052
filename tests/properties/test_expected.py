"""What an open lane waits for is never among the events that it has, whatever the order, times and definition."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import strategies as st

from sagas.engine.decide import SagaIdentity
from sagas.engine.definition import NO_MEANING, Definition, Entity, Event
from sagas.engine.evolve import listed, reading
from sagas.engine.expected import ShownStep, expected
from sagas.engine.facts import WIRE, Fact
from sagas.engine.fold import Fold, replay
from sagas.engine.state import LaneState
from tests.properties.histories import Tale, tales
from tests.properties.profiles import holds_for


def shown(lane: LaneState | None) -> list[ShownStep]:
    """A holder's steps as their rows keep them."""
    steps = lane.steps.items() if lane else ()
    return [ShownStep(kind, service, facts.rank, facts.event_type) for (kind, service), facts in steps]


def is_open(fold: Fold, lane: LaneState) -> bool:
    view = fold.view(lane.entity)
    return lane.known and not view.failed and not view.processed


def came(definition: Definition, lane: LaneState, key: str, story: list[Fact]) -> set[str]:
    """The types of the events about this lane, and of those that could have named it and spoke for the whole saga."""
    found = set()
    for fact in story:
        event = definition.event_of.get(fact.type)
        if event is None or fact.source != WIRE or is_unclear(definition, event, fact):
            continue
        about = lane.entity in {fact.names, *listed(event, fact)} or (lane.entity == key and not fact.names)
        if about or (event.entity is Entity.LANE_ELSE_SAGA and not fact.names):
            found.add(fact.type)
    return found


def is_unclear(definition: Definition, event: Event, fact: Fact) -> bool:
    """Whether the event does not say what happened: then another one of its type is still to come."""
    return event.success_field is not None and reading(definition, event, fact) is NO_MEANING


def otherwise(definition: Definition, chance: random.Random) -> Definition:
    """The same events in another order, some of them moving a step that others move too."""
    events = list(definition.events)
    chance.shuffle(events)
    steps = [event.means.step for event in events if event.means.step]
    return replace(
        definition,
        events=tuple(
            replace(event, means=replace(event.means, step=chance.choice([event.means.step, *steps])))
            if event.means.step
            else event
            for event in events
        ),
    )


@holds_for(tales(), st.one_of(st.none(), st.integers(0, 2**32)))
def test_an_open_lane_never_waits_for_an_event_that_came(tale: Tale, seed: int | None) -> None:
    identity = tale.identity
    if seed is not None:
        identity = SagaIdentity(otherwise(identity.definition, random.Random(seed)), *identity[1:])
    fold = replay(identity, tale.facts)
    for lane in fold.lanes.values():
        if is_open(fold, lane):
            waits_for = {
                event.type for event in expected(identity.definition, shown(lane), shown(fold.lanes.get(identity.key)))
            }
            assert not waits_for & came(identity.definition, lane, identity.key, tale.facts)


@holds_for(tales())
def test_an_open_lane_of_our_definitions_always_waits_for_something(tale: Tale) -> None:
    fold = replay(tale.identity, tale.facts)
    for lane in fold.lanes.values():
        if is_open(fold, lane):
            assert expected(tale.identity.definition, shown(lane), shown(fold.lanes.get(tale.identity.key)))
