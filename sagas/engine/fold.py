"""A saga while facts are folded into it: the pure functions, applied in turn, and what changed by it.

The accumulator holds the only mutable things of the engine: which values are current, and which of them are not yet
stored. `replay` is the same fold from nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sagas.engine.decide import SagaIdentity, count_lane, required_compensations, saga_failed
from sagas.engine.definition import FACT_RANK, Compensation, StepStatus
from sagas.engine.evolve import Interpretation, evolve_lane, evolve_saga, folded_lane_failure, interpret
from sagas.engine.facts import Fact
from sagas.engine.state import LaneState, SagaCounts, SagaState
from sagas.engine.status import status

EMPTY = SagaCounts()
STARTED_RANK = FACT_RANK[StepStatus.STARTED]

LaneChanges = Sequence[tuple[LaneState | None, LaneState]]  # lanes before and after a fact


class Fold:
    """One saga in memory.

    `lanes` must hold every stored lane that the facts touch, and all of them where a fact speaks for all
    (`evolve.speaks_for_all`). The holder of the saga's own steps is the lane called by its key.
    """

    __slots__ = (
        "_counts",
        "_failed",
        "_required",
        "_tallies",
        "before",
        "changed",
        "identity",
        "lanes",
        "saga",
        "status",
        "stored",
    )

    def __init__(self, identity: SagaIdentity, saga: SagaState, lanes: Mapping[str, LaneState]) -> None:
        self.identity = identity
        self.before = saga
        self.saga = saga
        self.stored = dict(lanes)
        self.lanes = dict(lanes)
        self.status = status(identity, saga)
        self._failed = saga_failed(identity, saga)
        self._counts = saga.counts
        self.changed: dict[str, None] = {}
        self._required: dict[str, tuple[Compensation, ...]] = {}  # as asked for since the last fact
        self._tallies: dict[str, SagaCounts] = {
            entity: count_lane(identity, saga, lane, self._failed) for entity, lane in lanes.items()
        }

    def apply(self, fact: Fact, interpretation: Interpretation | None = None) -> dict[str, Any]:
        """Folds one fact in; returns a compact note of what it changed, without payload, for the timeline.

        said: what it means, where the caller has asked already.
        """
        before, interpretation = self.saga, interpretation or interpret(self.identity, fact)
        self._required.clear()
        failed_before = self._failed
        saga = evolve_saga(before, interpretation, fact)
        moved: list[tuple[LaneState | None, LaneState]] = []
        for entity in interpretation.touched:
            old = self.lanes.get(entity)
            new = evolve_lane(old or LaneState(entity), interpretation, fact)
            if new != old and _holds_something(new):
                moved.append((old, new))
                self.lanes[entity] = new
                self.changed[entity] = None
                saga = folded_lane_failure(saga, new)
        self._failed = saga_failed(self.identity, saga)
        if self._failed is not failed_before or _speaks_for_all_now(before, saga):
            self._count_all(saga)
        else:
            self._count(saga, [lane for _, lane in moved])
        self.saga = saga.counting(self._counts)
        return self._note(before, failed_before) | _steps_note(interpretation, moved)

    def required(self, entity: str) -> tuple[Compensation, ...]:
        """The commands owed in a lane."""
        required = self._required.get(entity)
        if required is None:
            required = self._required[entity] = required_compensations(
                self.identity, self.saga, self.lanes[entity], self._failed
            )
        return required

    def required_before(self, entity: str) -> tuple[Compensation, ...]:
        """The commands that were owed in a lane before this fold began."""
        lane = self.stored.get(entity)
        return () if lane is None else required_compensations(self.identity, self.before, lane)

    def _count(self, saga: SagaState, lanes: Iterable[LaneState]) -> None:
        """The counters, by difference."""
        for lane in lanes:
            was = self._tallies.get(lane.entity, EMPTY)
            now = count_lane(self.identity, saga, lane, self._failed)
            if now != was:
                self._tallies[lane.entity] = now
                self._counts = self._counts.moved(was, now)

    def _count_all(self, saga: SagaState) -> None:
        """The same, of all lanes: something changed that each of them depends on."""
        before = dict(self._tallies)
        self._count(saga, self.lanes.values())
        for entity, lane in self.lanes.items():
            if self._tallies.get(entity) != before.get(entity) or _has_open_step(lane):
                self.changed[entity] = None

    def _note(self, before: SagaState, failed_before: bool) -> dict[str, Any]:
        """Counts, not lists, where a fact speaks for many lanes: a note must stay small."""
        note: dict[str, Any] = {}
        status_before, self.status = self.status, status(self.identity, self.saga)
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


def replay(identity: SagaIdentity, facts: Iterable[Fact]) -> Fold:
    """The saga folded from nothing: what its stored state must be equal to."""
    fold = Fold(identity, SagaState(), {})
    for fact in facts:
        fold.apply(fact)
    return fold


def _undoing_note(was: SagaCounts, now: SagaCounts) -> dict[str, Any]:
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


def _steps_note(interpretation: Interpretation, moved: LaneChanges) -> dict[str, Any]:
    step = interpretation.means.step
    if step is None:
        return {}
    count = len([new for old, new in moved if old is None or old.steps is not new.steps])
    if count == 0:
        return {}
    note: dict[str, Any] = {"steps": [[step.type, step.service, interpretation.means.rank]] * min(count, 3)}
    return note | {"steps_count": count} if count > 3 else note


def _holds_something(lane: LaneState) -> bool:
    return lane.known or bool(lane.steps) or bool(lane.commands) or lane.forced is not None


def _has_open_step(lane: LaneState) -> bool:
    """Whether what a step shows may change though the lane counts as before."""
    return any(facts.rank == STARTED_RANK for facts in lane.steps.values())


def _speaks_for_all_now(before: SagaState, after: SagaState) -> bool:
    """Whether something else than the saga's failure changed that every lane depends on."""
    return (
        before.processed_all != after.processed_all
        or before.processing_failed != after.processing_failed
        or before.claimed != after.claimed
    )
