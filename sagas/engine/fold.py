"""A saga while facts are folded into it: the pure functions, applied in turn, and what changed by it.

The accumulator holds the only mutable things of the engine: which values are current, and which of them are not yet
stored. `replay` is the same fold from nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sagas.engine.decide import Frame, decide, lane_failed, saga_failed, tally
from sagas.engine.definition import Compensation
from sagas.engine.evolve import evolve_lane, evolve_saga, folded_lane_failure, touches
from sagas.engine.facts import Fact
from sagas.engine.state import Lane, Saga, Tally
from sagas.engine.status import status

EMPTY = Tally()


class Fold:
    """One saga in memory.

    `lanes` must hold every stored lane that the facts touch, and all of them where a fact speaks for all
    (`evolve.speaks_for_all`). The holder of the saga's own steps is the lane called by its key.
    """

    __slots__ = ("_tallies", "before", "changed", "frame", "lanes", "saga", "stored")

    def __init__(self, frame: Frame, saga: Saga, lanes: Mapping[str, Lane]) -> None:
        self.frame = frame
        self.before = saga
        self.saga = saga
        self.stored = dict(lanes)
        self.lanes = dict(lanes)
        self.changed: dict[str, None] = {}
        self._tallies: dict[str, Tally] = {entity: tally(frame, saga, lane) for entity, lane in lanes.items()}

    def apply(self, fact: Fact) -> dict[str, Any]:
        """Folds one fact in; returns a compact note of what it changed, without payload, for the timeline."""
        frame, before = self.frame, self.saga
        status_before = status(frame, before)
        touched = touches(frame, fact)
        saga = evolve_saga(frame, before, fact)
        old = {entity: self.lanes.get(entity) for entity in touched}
        for entity, lane in old.items():
            known = lane if lane is not None else Lane(entity)
            new = evolve_lane(frame, known, fact)
            if new is known and lane is not None:
                continue
            if _holds_something(new):
                self.lanes[entity] = new
                self.changed[entity] = None
                saga = folded_lane_failure(saga, new)
        self.saga = saga
        self._recount(touched, before)
        status_after = status(frame, self.saga)
        note = {} if status_before == status_after else {"status": [status_before.value, status_after.value]}
        return note | self._note(old, before)

    def owed(self, entity: str) -> tuple[Compensation, ...]:
        """The commands owed in a lane."""
        return decide(self.frame, self.saga, self.lanes[entity])

    def owed_before(self, entity: str) -> tuple[Compensation, ...]:
        """The commands that were owed in a lane before this fold began."""
        lane = self.stored.get(entity)
        return () if lane is None else decide(self.frame, self.before, lane)

    def _recount(self, touched: Iterable[str], before: Saga) -> None:
        frame, saga, lanes = self.frame, self.saga, self.lanes
        entities = lanes if _speaks_for_all_now(frame, before, saga) else touched
        counts = saga.counts
        for entity in entities:
            lane = lanes.get(entity)
            if lane is None:
                continue
            was = self._tallies.get(entity, EMPTY)
            now = tally(frame, saga, lane)
            if now != was:
                self.changed[entity] = None
                self._tallies[entity] = now
                counts = counts.plus(now.minus(was))
        self.saga = saga._replace(counts=counts)

    def _note(self, old: Mapping[str, Lane | None], before: Saga) -> dict[str, Any]:
        """Counts, not lists, where a fact speaks for many lanes: a note must stay small."""
        note: dict[str, Any] = {}
        opened = sum(1 for entity, lane in old.items() if self._is_known(entity) and not (lane and lane.known))
        if opened:
            note["opened"] = opened
        failed_before, failed_after = saga_failed(self.frame, before), saga_failed(self.frame, self.saga)
        if failed_after and not failed_before:
            note["failed"] = "saga"
        elif any(self._newly_failed(entity, lane, failed_after) for entity, lane in old.items()):
            note["failed"] = "lane"
        owed = self.saga.counts.commands - before.counts.commands
        if owed:
            note["owed"] = owed
        for name in ("confirmed", "given_up", "exhausted"):
            difference = getattr(self.saga.counts, name) - getattr(before.counts, name)
            if difference > 0:
                note[name] = difference
        steps = [
            [step_type, service, facts.rank]
            for entity, lane in old.items()
            if entity in self.lanes
            for (step_type, service), facts in self.lanes[entity].steps.items()
            if lane is None or lane.steps.get((step_type, service)) != facts
        ]
        if steps:
            note["steps"] = steps[:3]
            if len(steps) > 3:
                note["steps_count"] = len(steps)
        return note

    def _is_known(self, entity: str) -> bool:
        lane = self.lanes.get(entity)
        return lane is not None and lane.known

    def _newly_failed(self, entity: str, lane: Lane | None, failed: bool) -> bool:
        now = self.lanes.get(entity)
        if now is None or not now.known or not lane_failed(now, failed):
            return False
        return lane is None or not lane_failed(lane, failed)


def replay(frame: Frame, facts: Iterable[Fact]) -> Fold:
    """The saga folded from nothing: what its stored state must be equal to."""
    fold = Fold(frame, Saga(), {})
    for fact in facts:
        fold.apply(fact)
    return fold


def _holds_something(lane: Lane) -> bool:
    return lane.known or bool(lane.steps) or bool(lane.commands) or lane.forced is not None


def _speaks_for_all_now(frame: Frame, before: Saga, after: Saga) -> bool:
    """Whether something changed that every lane depends on."""
    return (
        before.processed_all != after.processed_all
        or before.processing_failed != after.processing_failed
        or before.claimed != after.claimed
        or saga_failed(frame, before) != saga_failed(frame, after)
    )
