"""Which events an open lane waits for: the order of the definition compared with the steps of the lane. Pure.

Only the order of the definition counts. The clocks of the services differ and events arrive in any order, so times are
no evidence here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sagas.engine.definition import Definition, Entity, Event, StepStatus, meanings
from sagas.engine.state import StepKey

ONWARD = (StepStatus.STARTED, StepStatus.COMPLETED)


class ShownStep(NamedTuple):
    """One stored step: its key, its rank, and the type of the event that gave it this rank."""

    type: str
    service: str
    rank: int
    event_type: str


def expected(definition: Definition, lane: Iterable[ShownStep], saga: Iterable[ShownStep] = ()) -> tuple[Event, ...]:
    """Return the events that would advance this open lane, the next one first; empty if none is left.

    lane: the lane's own steps. saga: the steps of the saga itself, which events that name no lane have changed.
    Returned are the first event after the furthest one that the lane has and, if that event only reports a start (which
    some producers omit), the event that completes it. Events that the lane has, or that were about the whole saga, are
    never returned.
    """
    own = list(lane)
    ranks = _ranks(own)
    whole = {key: max(rank, ranks.get(key, 0)) for key, rank in _ranks(saga).items()} | ranks
    missing = [
        event
        for event in definition.events
        if _advances(definition, event) and not _may_have_arrived(event, ranks, whole)
    ]
    positions = {event.type: position for position, event in enumerate(definition.events)}
    furthest = max((positions.get(step.event_type, -1) for step in own), default=-1)
    ahead = [event for event in missing if positions[event.type] > furthest]
    first = ahead[0] if ahead else next((event for event in missing if event.means.processes), None)
    if first is None:
        return ()
    return (first, *_completing(first, missing))


def _ranks(steps: Iterable[ShownStep]) -> dict[StepKey, int]:
    return {(step.type, step.service): step.rank for step in steps}


def _advances(definition: Definition, event: Event) -> bool:
    """Return whether this event advances a step of one lane.

    An event that lists lanes may have named this one beside its list, and an event with a meaning that changes no step
    may leave no trace: the steps of the lane do not show whether such an event arrived.
    """
    about_a_lane = event.entity in (Entity.LANE, Entity.LANE_ELSE_SAGA)
    if not definition.entity_field:
        about_a_lane = about_a_lane or event.entity is Entity.SAGA
    return about_a_lane and event.means.becomes in ONWARD and all(meaning.step for meaning in meanings(event))


def _may_have_arrived(event: Event, lane: Mapping[StepKey, int], whole: Mapping[StepKey, int]) -> bool:
    """Return whether the event may have arrived: a step has the rank that it would give, or a higher one."""
    ranks = whole if event.entity is Entity.LANE_ELSE_SAGA else lane
    return any(
        meaning.step is not None and ranks.get((meaning.step.type, meaning.step.service), 0) >= meaning.rank
        for meaning in meanings(event)
    )


def _completing(first: Event, missing: Iterable[Event]) -> tuple[Event, ...]:
    outcome = first.means.step.outcome if first.means.step else ""
    found = [
        event
        for event in missing
        if event.means.step and event.means.step.type == outcome and event.means.becomes is StepStatus.COMPLETED
    ]
    return tuple(found[:1]) if outcome and found and found[0] is not first else ()
