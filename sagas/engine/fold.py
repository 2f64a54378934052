"""Fold facts into a saga: apply the pure functions one after another and keep track of what changed.

`Fold` is the only mutable object of the engine: it holds the current values, one view of each lane, and which lanes
changed. `replay` is the same fold, starting from nothing.

A fact that may move the runs of a saga (`runs.may_move`) needs all earlier facts: the fold then begins again with the
runs that all facts together give, so that every fact is joined into the state of its run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sagas.engine.change import Refusal, SagaChange, lane_change, refusal, saga_details
from sagas.engine.decide import SAGA_SCOPE, STARTED_RANK, LaneView, SagaIdentity, lane_contexts
from sagas.engine.evolve import Interpretation, evolve_lane, evolve_saga, folded_lane_failure, interpret
from sagas.engine.facts import WIRE, Fact
from sagas.engine.runs import may_move, spans
from sagas.engine.state import NO_COUNTS, LaneState, SagaCounts, SagaState
from sagas.engine.status import end_time, status

LaneChanges = Sequence[tuple[LaneState | None, LaneState]]  # each changed lane before and after a fact


class LogNeeded(Exception):
    """A fact may move the runs of the saga: folding it needs the saga's log and all of its lanes."""


class Fold:
    """One saga in memory.

    `lanes` must contain every stored lane that the facts touch, and all lanes of the saga if a fact needs them all
    (`evolve.needs_all_lanes`). The steps of the saga itself are in the lane whose entity is the key of the saga. `log`
    are the facts that the stored state was folded from, in any order; without it, a fact that may move the runs raises
    LogNeeded, and the fold is of no use any more. A fold from nothing has them all.
    """

    __slots__ = (
        "_coming",
        "_contexts",
        "_counts",
        "_details_changed",
        "_lanes_only",
        "_log",
        "_named_only",
        "_notes",
        "_past",
        "_refusals",
        "_restarts",
        "_settled",
        "_single",
        "_views",
        "_views_before",
        "before",
        "changed",
        "identity",
        "lanes",
        "saga",
        "status",
    )

    def __init__(
        self,
        identity: SagaIdentity,
        saga: SagaState,
        lanes: Mapping[str, LaneState],
        log: Iterable[Fact] | None = None,
    ) -> None:
        self.identity = identity
        self.before = saga
        self.saga = saga
        self.lanes = dict(lanes)
        self.changed: dict[str, None] = {}
        self.status = status(identity, saga)
        self._log: list[Fact] | None = list(log) if log is not None else ([] if saga.last_at is None else None)
        about_lanes_only = identity.definition.about_lanes_only
        self._lanes_only, self._named_only = about_lanes_only[False], about_lanes_only[True]
        self._restarts = identity.definition.restarts
        if self._restarts and identity.scope == SAGA_SCOPE:
            # The failure of a lane fails its run, which may let a start open another.
            self._lanes_only = self._named_only = frozenset()
        self._single = len(saga.runs) == 1
        self._coming: list[Fact] = []
        self._settled = False
        self._counts, self._past = saga.counts, saga.past
        # The start of a saga without an event that starts it is the time of its last event, which each fact may change.
        self._details_changed = saga.started is None
        self._notes: list[dict[str, Any]] = []
        self._refusals: list[Refusal] = []
        self._contexts = lane_contexts(identity, saga)
        self._views_before = {
            entity: LaneView(identity, self._contexts[saga.run_of(lane)], lane) for entity, lane in lanes.items()
        }
        self._views = dict(self._views_before)

    def apply(self, fact: Fact, interpretation: Interpretation | None = None) -> dict[str, Any]:
        """Fold one fact in; return a compact note of what it changed, without payload, for the timeline.

        interpretation: what the fact means, if the caller has computed it already. Raises LogNeeded.
        """
        interpretation = interpretation or interpret(self.identity, fact)
        before, failed_before = self.saga, self._contexts[-1].failed
        # A fact that says nothing of the saga as a whole, and cannot be of an earlier run: so most facts.
        types = self._named_only if interpretation.entity else self._lanes_only
        lanes_only = fact.type in types and interpretation.event is not None and not fact.correlation
        if lanes_only and self._single and before.runs[0].silent is None:
            changes = self._join(before, fact, interpretation)
        else:
            if not self._settled and may_move(self.identity, before, fact, interpretation):
                self._begin_again(self._coming or [fact])
            changes = self._join_whole(fact, interpretation)
        if interpretation.means.refuses:
            self._note_refusal(fact, interpretation)
        note = self._note(before, failed_before) | _steps_note(interpretation, changes)
        if interpretation.is_unclear:
            note["unclear"] = True
        self._notes.append(note)
        if self._log is not None:
            self._log.append(fact)
        return note

    def apply_all(self, facts: Sequence[tuple[Fact, Interpretation]], *, again: bool = False) -> None:
        """Fold facts in, each with what it means: at most one of them makes the fold begin again. Raises LogNeeded.

        again: fold the log again in any case, because the stored state is that of another version.
        """
        self._coming = [fact for fact, _ in facts]
        if again:
            self._begin_again(self._coming, whole=True)
        for fact, interpretation in facts:
            self.apply(fact, interpretation)
        self._coming, self._settled = [], False

    def _join_whole(self, fact: Fact, interpretation: Interpretation) -> LaneChanges:
        """Join a fact into the state of its run, and of the lanes that it touches; return the changed lanes."""
        saga = evolve_saga(self.identity, self.saga, interpretation, fact)
        return self._join(saga, fact, interpretation)

    def _join(self, saga: SagaState, fact: Fact, interpretation: Interpretation) -> LaneChanges:
        """Join a fact into the lanes that it touches; return those that it changed. saga: after the fact."""
        before = self.saga
        saga, changes = self._join_lanes(saga, fact, interpretation)
        contexts_before = self._contexts
        if saga is not before and saga != before:
            self._details_changed = True
            if saga.runs is not before.runs:
                self._contexts = lane_contexts(self.identity, saga)
        if self._contexts is not contexts_before and self._contexts != contexts_before:
            self._view_all(saga)
        else:
            for _, lane in changes:
                self._view(saga, lane)
        last_at = before.last_at
        if last_at is None or last_at < fact.occurred_at:
            last_at = fact.occurred_at
        if self._past is not saga.past:
            self._details_changed = True
            saga = saga._replace(past=self._past)
        unmoved = last_at is saga.last_at and self._counts is saga.counts
        self.saga = saga if unmoved else saga.advanced(last_at, self._counts)
        return changes

    def _join_lanes(
        self, saga: SagaState, fact: Fact, interpretation: Interpretation
    ) -> tuple[SagaState, list[tuple[LaneState | None, LaneState]]]:
        """Join a fact into the lanes that it touches; return the saga with their failures, and the changed lanes."""
        key, since_latest = self.identity.key, saga.runs[-1].began
        changes: list[tuple[LaneState | None, LaneState]] = []
        moved = False
        for entity in interpretation.touched:
            old = self.lanes.get(entity)
            since = since_latest if entity == key else None
            new = evolve_lane(old or LaneState(entity), interpretation, fact, self._restarts, since)
            if new != old and _is_worth_storing(new):
                changes.append((old, new))
                self.lanes[entity] = new
                self.changed[entity] = None
                moved = moved or (not self._single and old is not None and saga.run_of(old) != saga.run_of(new))
                if new.failure is not None or new.forced is not None or new.commands:
                    saga = folded_lane_failure(saga, new)
        return (self._lane_failures_again(saga) if moved else saga), changes

    def _begin_again(self, coming: Sequence[Fact], *, whole: bool = False) -> None:
        """Fold the log again, in the runs that it gives together with the facts that are about to be folded.

        whole: even if the runs stay where they are.
        """
        if self._log is None:
            raise LogNeeded
        self._settled = bool(self._coming)  # the runs are then those of all facts that are coming
        runs = spans(self.identity, [*self._log, *coming])
        now = self.saga.runs
        if not whole and [run.began for run in runs] == [run.began for run in now]:
            # Only what is said of the runs changes: the lanes stay where they are.
            kept = [
                run._replace(last_start=r.last_start, silent=r.silent, broken=r.broken)
                for run, r in zip(now, runs, strict=True)
            ]
            self.saga = self.saga._replace(runs=tuple(kept))
            self._details_changed = True
            return
        self._details_changed = True
        self.changed.update(dict.fromkeys(self.lanes))
        self.saga, self.lanes, self._views = SagaState(runs=runs), {}, {}
        self._counts = self._past = self.saga.counts
        self._single = len(runs) == 1
        self._contexts = lane_contexts(self.identity, self.saga)
        for fact in _openings_first(self.identity, self._log):
            self._join_whole(fact, interpret(self.identity, fact))

    def _lane_failures_again(self, saga: SagaState) -> SagaState:
        """Return the saga with the first lane failure of each run, after a lane moved from one run to another."""
        saga = saga._replace(runs=tuple(run._replace(lane_failure=None) for run in saga.runs))
        for lane in self.lanes.values():
            saga = folded_lane_failure(saga, lane)
        return saga

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

    def _view(self, saga: SagaState, lane: LaneState) -> None:
        """View a lane again, and update the counters by the difference."""
        number = 0 if self._single else saga.run_of(lane)
        view, known = LaneView(self.identity, self._contexts[number], lane), self._views.get(lane.entity)
        self._views[lane.entity] = view
        was = NO_COUNTS if known is None else known.counts
        if view.counts != was:
            self._counts = self._counts.replacing(was, view.counts)
        if not self._single:
            past, was_past = (
                (view.counts if view.past else NO_COUNTS),
                (was if known is not None and known.past else NO_COUNTS),
            )
            if past != was_past:
                self._past = self._past.replacing(was_past, past)

    def _view_all(self, saga: SagaState) -> None:
        """View all lanes again, because something changed that each of them depends on."""
        before = dict(self._views)
        for entity, lane in self.lanes.items():
            self._view(saga, lane)
            was, now = before.get(entity), self._views[entity]
            if was is None or now.counts != was.counts or now.overtaken != was.overtaken or _has_open_step(lane):
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
        if len(self.saga.runs) > len(before.runs):
            note["run"] = len(self.saga.runs)
        if self._contexts[-1].failed and not failed_before:
            note["failed"] = "saga"
        return _undoing_note(was, now) | note if now.failed_lanes else note

    def _note_refusal(self, fact: Fact, interpretation: Interpretation) -> None:
        event = interpretation.event
        if event is not None and fact.names:
            self._refusals.append(refusal(self.identity, event, interpretation.means.refuses, fact))


def replay(identity: SagaIdentity, facts: Iterable[Fact]) -> Fold:
    """Return the saga folded from nothing: its stored state must be equal to this."""
    fold = Fold(identity, SagaState(), {})
    fold.apply_all([(fact, interpret(identity, fact)) for fact in facts])
    return fold


def _openings_first(identity: SagaIdentity, facts: Iterable[Fact]) -> list[Fact]:
    """Return the facts with the openings first, by time, so that each lane is put into its run only once."""
    opening = {event.type for event in identity.definition.events if event.opening}
    first = [fact for fact in facts if fact.source == WIRE and fact.type in opening]
    rest = [fact for fact in facts if fact.source != WIRE or fact.type not in opening]
    return [*sorted(first, key=lambda fact: fact.occurred_at), *rest]


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
