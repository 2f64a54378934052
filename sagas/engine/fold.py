"""Fold facts into a saga: apply the pure functions one after another and keep track of what changed.

`Fold` is the only mutable object of the engine: it holds the current values, one view of each lane, and which lanes
changed. `replay` is the same fold, starting from nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sagas.engine.change import Refusal, SagaChange, lane_change, refusal, saga_details
from sagas.engine.decide import STARTED_RANK, LaneView, SagaIdentity, lane_context
from sagas.engine.evolve import Interpretation, evolve_lane, evolve_saga, folded_lane_failure, interpret
from sagas.engine.facts import Fact
from sagas.engine.state import LaneState, SagaCounts, SagaState
from sagas.engine.status import end_time, status

EMPTY = SagaCounts()

LaneChanges = Sequence[tuple[LaneState | None, LaneState]]  # each changed lane before and after a fact


class Fold:
    """One saga in memory.

    `lanes` must contain every stored lane that the facts touch, and all lanes of the saga if a fact needs them all
    (`evolve.needs_all_lanes`). The steps of the saga itself are in the lane whose entity is the key of the saga.
    """

    __slots__ = (
        "_context",
        "_counts",
        "_details_changed",
        "_notes",
        "_refusals",
        "_views",
        "_views_before",
        "before",
        "changed",
        "identity",
        "lanes",
        "saga",
        "status",
    )

    def __init__(self, identity: SagaIdentity, saga: SagaState, lanes: Mapping[str, LaneState]) -> None:
        self.identity = identity
        self.before = saga
        self.saga = saga
        self.lanes = dict(lanes)
        self.changed: dict[str, None] = {}
        self.status = status(identity, saga)
        self._counts = saga.counts
        # The start of a saga without an event that starts it is the time of its last event, which each fact may change.
        self._details_changed = saga.started is None
        self._notes: list[dict[str, Any]] = []
        self._refusals: list[Refusal] = []
        self._context = lane_context(identity, saga)
        self._views_before = {entity: LaneView(identity, self._context, lane) for entity, lane in lanes.items()}
        self._views = dict(self._views_before)

    def apply(self, fact: Fact, interpretation: Interpretation | None = None) -> dict[str, Any]:
        """Fold one fact in; return a compact note of what it changed, without payload, for the timeline.

        interpretation: what the fact means, if the caller has computed it already.
        """
        before, interpretation = self.saga, interpretation or interpret(self.identity, fact)
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
        context_before = self._context
        if saga is not before and saga != before:
            self._details_changed = True
            self._context = lane_context(self.identity, saga)
        if self._context is not context_before and self._context != context_before:
            self._view_all()
        else:
            for _, lane in changes:
                self._view(lane)
        last_at = before.last_at
        if last_at is None or last_at < fact.occurred_at:
            last_at = fact.occurred_at
        unmoved = last_at is saga.last_at and self._counts is saga.counts
        self.saga = saga if unmoved else saga.advanced(last_at, self._counts)
        if interpretation.means.refuses:
            self._note_refusal(fact, interpretation)
        note = self._note(before, context_before.failed) | _steps_note(interpretation, changes)
        if interpretation.is_unclear:
            note["unclear"] = True
        self._notes.append(note)
        return note

    def view(self, entity: str) -> LaneView:
        """Return the view of a lane: what follows from its state now."""
        return self._views[entity]

    def change(self, *, whole: bool = False) -> SagaChange:
        """Return what the facts changed since this fold began. whole: with the saga's details, changed or not."""
        saga = self.saga
        return SagaChange(
            identity=self.identity,
            saga=saga,
            status=self.status,
            correlation=saga.correlation.text if saga.correlation else self.identity.key,
            end_time=end_time(self.status, saga),
            counted=saga.counts.differences(self.before.counts),
            details=saga_details(self.identity, saga) if whole or self._details_changed else None,
            lanes=tuple(
                lane_change(self._views_before.get(entity), self._views[entity], saga) for entity in self.changed
            ),
            refusals=tuple(self._refusals),
            notes=tuple(self._notes),
        )

    def _view(self, lane: LaneState) -> None:
        """View a lane again, and update the counters by the difference."""
        view = LaneView(self.identity, self._context, lane)
        known = self._views.get(lane.entity)
        was = EMPTY if known is None else known.counts
        self._views[lane.entity] = view
        if view.counts != was:
            self._counts = self._counts.replacing(was, view.counts)

    def _view_all(self) -> None:
        """View all lanes again, because something changed that each of them depends on."""
        before = dict(self._views)
        for entity, lane in self.lanes.items():
            self._view(lane)
            if entity not in before or self._views[entity].counts != before[entity].counts or _has_open_step(lane):
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
        if self._context.failed and not failed_before:
            note["failed"] = "saga"
        return _undoing_note(was, now) | note if now.failed_lanes else note

    def _note_refusal(self, fact: Fact, interpretation: Interpretation) -> None:
        event = interpretation.event
        if event is not None and fact.names:
            self._refusals.append(refusal(self.identity, event, interpretation.means.refuses, fact))


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
