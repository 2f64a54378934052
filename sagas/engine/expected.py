"""Which events an open lane waits for: the definition's order against what the lane's steps show. Pure.

The order is the definition's. The services' clocks differ, and nothing arrives in order, so times say nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sagas.engine.definition import Definition, Entity, Event, StepStatus, meanings
from sagas.engine.state import StepKey

ONWARD = (StepStatus.STARTED, StepStatus.COMPLETED)


class ShownStep(NamedTuple):
    """One stored step: its key, the rank that facts gave it, and the type of the event that gave it this rank."""

    type: str
    service: str
    rank: int
    event_type: str


def expected(definition: Definition, lane: Iterable[ShownStep], saga: Iterable[ShownStep] = ()) -> tuple[Event, ...]:
    """Return the events that would move this open lane on, the next one first; empty where none is left.

    lane: the lane's own steps. saga: the steps of the saga itself, which an event that names no lane has moved.
    These are the first event after the furthest one that the lane has and, where that event only reports a start (which
    some producers leave out), the event that completes what it starts. No event among those that the lane has, or that
    spoke for the whole saga, is ever returned.
    """
    own = list(lane)
    ranks = _ranks(own)
    whole = {key: max(rank, ranks.get(key, 0)) for key, rank in _ranks(saga).items()} | ranks
    missing = [event for event in definition.events if _moves_on(definition, event) and not _known(event, ranks, whole)]
    positions = {event.type: position for position, event in enumerate(definition.events)}
    furthest = max((positions.get(step.event_type, -1) for step in own), default=-1)
    ahead = [event for event in missing if positions[event.type] > furthest]
    first = ahead[0] if ahead else next((event for event in missing if event.means.processes), None)
    if first is None:
        return ()
    return (first, *_completing(first, missing))


def _ranks(steps: Iterable[ShownStep]) -> dict[StepKey, int]:
    return {(step.type, step.service): step.rank for step in steps}


def _moves_on(definition: Definition, event: Event) -> bool:
    """Whether this event moves a step of one lane onward.

    One that lists lanes may have named this one beside its list, and one that can mean something which moves no step
    leaves no trace: of both, the lane's steps cannot tell whether they came.
    """
    about_a_lane = event.entity in (Entity.LANE, Entity.LANE_ELSE_TASK)
    if not definition.entity_field:
        about_a_lane = about_a_lane or event.entity is Entity.TASK
    return about_a_lane and event.means.becomes in ONWARD and all(meaning.step for meaning in meanings(event))


def _known(event: Event, lane: Mapping[StepKey, int], whole: Mapping[StepKey, int]) -> bool:
    """Whether the event may have come: some step stands where it would have moved it, or further."""
    ranks = whole if event.entity is Entity.LANE_ELSE_TASK else lane
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
