"""A saga while facts are folded into it: the pure functions, applied in turn, and what changed by it.

The accumulator holds the only mutable things of the engine: which values are current, and which of them are not yet
stored. `replay` is the same fold from nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sagas.engine.decide import Frame, decide, saga_failed, tally
from sagas.engine.definition import FACT_RANK, Compensation, StepStatus
from sagas.engine.evolve import Understood, evolve_lane, evolve_saga, folded_lane_failure, understand
from sagas.engine.facts import Fact
from sagas.engine.state import Lane, Saga, Tally
from sagas.engine.status import status

EMPTY = Tally()
STARTED_RANK = FACT_RANK[StepStatus.STARTED]

Moved = Sequence[tuple[Lane | None, Lane]]  # lanes before and after a fact


class Fold:
    """One saga in memory.

    `lanes` must hold every stored lane that the facts touch, and all of them where a fact speaks for all
    (`evolve.speaks_for_all`). The holder of the saga's own steps is the lane called by its key.
    """

    __slots__ = (
        "_counts",
        "_failed",
        "_owed",
        "_tallies",
        "before",
        "changed",
        "frame",
        "lanes",
        "saga",
        "status",
        "stored",
    )

    def __init__(self, frame: Frame, saga: Saga, lanes: Mapping[str, Lane]) -> None:
        self.frame = frame
        self.before = saga
        self.saga = saga
        self.stored = dict(lanes)
        self.lanes = dict(lanes)
        self.status = status(frame, saga)
        self._failed = saga_failed(frame, saga)
        self._counts = saga.counts
        self.changed: dict[str, None] = {}
        self._owed: dict[str, tuple[Compensation, ...]] = {}  # as asked for since the last fact
        self._tallies: dict[str, Tally] = {
            entity: tally(frame, saga, lane, self._failed) for entity, lane in lanes.items()
        }

    def apply(self, fact: Fact, said: Understood | None = None) -> dict[str, Any]:
        """Folds one fact in; returns a compact note of what it changed, without payload, for the timeline.

        said: what it means, where the caller has asked already.
        """
        before, said = self.saga, said or understand(self.frame, fact)
        self._owed.clear()
        failed_before = self._failed
        saga = evolve_saga(before, said, fact)
        moved: list[tuple[Lane | None, Lane]] = []
        for entity in said.touched:
            old = self.lanes.get(entity)
            new = evolve_lane(old or Lane(entity), said, fact)
            if new != old and _holds_something(new):
                moved.append((old, new))
                self.lanes[entity] = new
                self.changed[entity] = None
                saga = folded_lane_failure(saga, new)
        self._failed = saga_failed(self.frame, saga)
        if self._failed is not failed_before or _speaks_for_all_now(before, saga):
            self._count_all(saga)
        else:
            self._count(saga, [lane for _, lane in moved])
        self.saga = saga.counting(self._counts)
        return self._note(before, failed_before) | _steps_note(said, moved)

    def owed(self, entity: str) -> tuple[Compensation, ...]:
        """The commands owed in a lane."""
        owed = self._owed.get(entity)
        if owed is None:
            owed = self._owed[entity] = decide(self.frame, self.saga, self.lanes[entity], self._failed)
        return owed

    def owed_before(self, entity: str) -> tuple[Compensation, ...]:
        """The commands that were owed in a lane before this fold began."""
        lane = self.stored.get(entity)
        return () if lane is None else decide(self.frame, self.before, lane)

    def _count(self, saga: Saga, lanes: Iterable[Lane]) -> None:
        """The counters, by difference."""
        for lane in lanes:
            was = self._tallies.get(lane.entity, EMPTY)
            now = tally(self.frame, saga, lane, self._failed)
            if now != was:
                self._tallies[lane.entity] = now
                self._counts = self._counts.moved(was, now)

    def _count_all(self, saga: Saga) -> None:
        """The same, of all lanes: something changed that each of them depends on."""
        before = dict(self._tallies)
        self._count(saga, self.lanes.values())
        for entity, lane in self.lanes.items():
            if self._tallies.get(entity) != before.get(entity) or _has_open_step(lane):
                self.changed[entity] = None

    def _note(self, before: Saga, failed_before: bool) -> dict[str, Any]:
        """Counts, not lists, where a fact speaks for many lanes: a note must stay small."""
        note: dict[str, Any] = {}
        status_before, self.status = self.status, status(self.frame, self.saga)
        if status_before is not self.status:
            note["status"] = [status_before.value, self.status.value]
        was, now = before.counts, self.saga.counts
        if now.known > was.known:
            note["opened"] = now.known - was.known
        if self._failed and not failed_before:
            note["failed"] = "saga"
        if now.undoing_part == was.undoing_part:
            return note
        return _undoing_note(was, now) | note


def replay(frame: Frame, facts: Iterable[Fact]) -> Fold:
    """The saga folded from nothing: what its stored state must be equal to."""
    fold = Fold(frame, Saga(), {})
    for fact in facts:
        fold.apply(fact)
    return fold


def _undoing_note(was: Tally, now: Tally) -> dict[str, Any]:
    note: dict[str, Any] = {}
    if now.failed_lanes > was.failed_lanes:
        note["failed"] = "lane"
    if now.commands > was.commands:
        note["owed"] = now.commands - was.commands
    for name in ("confirmed", "given_up", "exhausted"):
        difference = getattr(now, name) - getattr(was, name)
        if difference > 0:
            note[name] = difference
    return note


def _steps_note(said: Understood, moved: Moved) -> dict[str, Any]:
    step = said.means.step
    if step is None:
        return {}
    count = len([new for old, new in moved if old is None or old.steps is not new.steps])
    if count == 0:
        return {}
    note: dict[str, Any] = {"steps": [[step.type, step.service, said.means.rank]] * min(count, 3)}
    return note | {"steps_count": count} if count > 3 else note


def _holds_something(lane: Lane) -> bool:
    return lane.known or bool(lane.steps) or bool(lane.commands) or lane.forced is not None


def _has_open_step(lane: Lane) -> bool:
    """Whether what a step shows may change though the lane counts as before."""
    return any(facts.rank == STARTED_RANK for facts in lane.steps.values())


def _speaks_for_all_now(before: Saga, after: Saga) -> bool:
    """Whether something else than the saga's failure changed that every lane depends on."""
    return (
        before.processed_all != after.processed_all
        or before.processing_failed != after.processing_failed
        or before.claimed != after.claimed
    )
