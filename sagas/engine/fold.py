"""Fold facts into a saga: apply the pure functions one after another and keep track of what changed.

`Fold` is the only mutable object of the engine: it holds the current values and which of them are not stored yet.
`replay` is the same fold, starting from nothing.
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

LaneChanges = Sequence[tuple[LaneState | None, LaneState]]  # each changed lane before and after a fact


class Fold:
    """One saga in memory.

    `lanes` must contain every stored lane that the facts touch, and all lanes of the saga if a fact needs them all
    (`evolve.needs_all_lanes`). The steps of the saga itself are in the lane whose entity is the key of the saga.
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
        self._required: dict[str, tuple[Compensation, ...]] = {}  # cached since the last fact
        self._tallies: dict[str, SagaCounts] = {
            entity: count_lane(identity, saga, lane, self._failed) for entity, lane in lanes.items()
        }

    def apply(self, fact: Fact, interpretation: Interpretation | None = None) -> dict[str, Any]:
        """Fold one fact in; return a compact note of what it changed, without payload, for the timeline.

        interpretation: what the fact means, if the caller has computed it already.
        """
        before, interpretation = self.saga, interpretation or interpret(self.identity, fact)
        self._required.clear()
        failed_before = self._failed
        saga = evolve_saga(before, interpretation, fact)
        changes: list[tuple[LaneState | None, LaneState]] = []
        for entity in interpretation.touched:
            old = self.lanes.get(entity)
            new = evolve_lane(old or LaneState(entity), interpretation, fact)
            if new != old and _is_worth_storing(new):
                changes.append((old, new))
                self.lanes[entity] = new
                self.changed[entity] = None
                saga = folded_lane_failure(saga, new)
        self._failed = saga_failed(self.identity, saga)
        if self._failed is not failed_before or _changed_for_all_lanes(before, saga):
            self._count_all(saga)
        else:
            self._count(saga, [lane for _, lane in changes])
        self.saga = saga.counting(self._counts)
        return self._note(before, failed_before) | _steps_note(interpretation, changes)

    def required(self, entity: str) -> tuple[Compensation, ...]:
        """Return the required compensations of a lane."""
        required = self._required.get(entity)
        if required is None:
            required = self._required[entity] = required_compensations(
                self.identity, self.saga, self.lanes[entity], self._failed
            )
        return required

    def required_before(self, entity: str) -> tuple[Compensation, ...]:
        """Return the compensations of a lane that were required before this fold began."""
        lane = self.stored.get(entity)
        return () if lane is None else required_compensations(self.identity, self.before, lane)

    def _count(self, saga: SagaState, lanes: Iterable[LaneState]) -> None:
        """Update the counters by the difference that these lanes make."""
        for lane in lanes:
            was = self._tallies.get(lane.entity, EMPTY)
            now = count_lane(self.identity, saga, lane, self._failed)
            if now != was:
                self._tallies[lane.entity] = now
                self._counts = self._counts.replacing(was, now)

    def _count_all(self, saga: SagaState) -> None:
        """Update the counters for all lanes, because something changed that each of them depends on."""
        before = dict(self._tallies)
        self._count(saga, self.lanes.values())
        for entity, lane in self.lanes.items():
            if self._tallies.get(entity) != before.get(entity) or _has_open_step(lane):
                self.changed[entity] = None

    def _note(self, before: SagaState, failed_before: bool) -> dict[str, Any]:
        """Return what changed. Counts instead of lists, so that the note of a fact about many lanes stays small."""
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
    """Return the saga folded from nothing: its stored state must be equal to this."""
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


def _steps_note(interpretation: Interpretation, changes: LaneChanges) -> dict[str, Any]:
    step = interpretation.means.step
    if step is None:
        return {}
    count = len([new for old, new in changes if old is None or old.steps is not new.steps])
    if count == 0:
        return {}
    note: dict[str, Any] = {"steps": [[step.type, step.service, interpretation.means.rank]] * min(count, 3)}
    return note | {"steps_count": count} if count > 3 else note


def _is_worth_storing(lane: LaneState) -> bool:
    return lane.known or bool(lane.steps) or bool(lane.commands) or lane.forced is not None


def _has_open_step(lane: LaneState) -> bool:
    """Return whether the status of a step may change although the lane is counted as before."""
    return any(facts.rank == STARTED_RANK for facts in lane.steps.values())


def _changed_for_all_lanes(before: SagaState, after: SagaState) -> bool:
    """Return whether anything else than the failure of the saga changed that every lane depends on."""
    return (
        before.processed_all != after.processed_all
        or before.processing_failed != after.processing_failed
        or before.claimed != after.claimed
    )
