"""The runs of a saga: a task that failed, or whose intake ended, may be started again, with new lanes.

A run is a span of time. It begins with a start if the segment before that start (from the previous start, or from the
beginning) holds a failure of the saga as a whole, or an end of the intake, that occurred strictly before it. Facts that
are about the whole saga count for the run of their time; a lane belongs to the run of its opening. With failure scope
saga, a run also failed as a whole if one of its lanes did, so the next start after that failure begins another.

Where the runs lie is a function of the set of all facts, and of no less: a start that arrives late divides what earlier
facts were joined into. So a fact that may move a boundary needs the saga's log (`may_move`), and `spans` computes the
runs from it. All other facts are joined into the state of their run, whatever their order. Starts, failures and ends of
the intake need not be remembered one by one: the state of a run says whether a fact could move its boundaries.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sagas.engine import facts as kinds
from sagas.engine.decide import SAGA_SCOPE, SagaIdentity
from sagas.engine.evolve import (
    Interpretation,
    breaks_silence,
    ends_run,
    failed_lane,
    interpret,
    opened_lanes,
    when,
)
from sagas.engine.facts import Fact
from sagas.engine.state import Mark, RunState, SagaState


class _Marks(NamedTuple):
    """What decides where the runs lie, each list sorted."""

    starts: Sequence[datetime]  # each time once
    ends: Sequence[datetime]  # failures of the saga as a whole, and ends of the intake
    silences: Sequence[tuple[datetime, Mark]]  # its time, and the event that it names
    events: Sequence[Mark]  # all from Pulsar
    # Failed lanes that fail their run: the opening of each, and when it first failed.
    lanes: Sequence[tuple[datetime, datetime]]


def spans(identity: SagaIdentity, facts: Iterable[Fact]) -> tuple[RunState, ...]:
    """Return the runs to which these facts give rise, with nothing but their spans, starts and silences.

    facts: all facts of the saga, in any order.
    """
    marks = _marks(identity, facts)
    runs: list[RunState] = []
    run, previous = RunState(), None
    for start in marks.starts:
        ended = _between(marks.ends, previous, start) or _lane_failed(marks, run.began, start)
        if ended or _silent(marks, run.began, previous, start):
            runs.append(_closed(marks, run, start))
            run = RunState(began=start)
        run = run._replace(last_start=start)
        previous = start
    return (*runs, _closed(marks, run, None))


def may_move(identity: SagaIdentity, saga: SagaState, fact: Fact, interpretation: Interpretation) -> bool:
    """Return whether a fact may change where the runs lie, in which run a lane is, or whether a silence counts."""
    if fact.type == kinds.INTAKE_SILENT and fact.source != kinds.WIRE:
        return True
    if not identity.definition.restarts:
        return False
    event = interpretation.event
    number = saga.run_at(when(fact))
    run, is_latest = saga.runs[number], number == len(saga.runs) - 1
    lanes_fail_runs = identity.scope == SAGA_SCOPE
    if event is not None and event.starts and (not is_latest or _could_open(run, fact.occurred_at, lanes_fail_runs)):
        return True
    if lanes_fail_runs and _lane_may_move(saga, fact, interpretation):
        return True
    if ends_run(identity, interpretation, fact) and _precedes(when(fact), run.last_start):
        return True
    if is_latest:
        return False
    return breaks_silence(run, fact) or (event is not None and event.opening)


def _could_open(run: RunState, start: datetime, lanes_fail_runs: bool) -> bool:
    """Return whether a start in this run could open another: if something may have ended it before."""
    if lanes_fail_runs and run.lane_failure is not None and run.lane_failure.occurred_at < start:
        return True
    return run.silent is not None or (run.first_end is not None and run.first_end < start)


def _lane_may_move(saga: SagaState, fact: Fact, interpretation: Interpretation) -> bool:
    """Return whether a fact, older than the latest start, fails a lane, or may put a failed one into another run."""
    if not _precedes(fact.occurred_at, saga.latest.last_start):
        return False
    if failed_lane(interpretation, fact):
        return True
    return bool(opened_lanes(interpretation)) and any(run.lane_failure is not None for run in saga.runs)


def _precedes(time: datetime, start: datetime | None) -> bool:
    return start is not None and time < start


def _marks(identity: SagaIdentity, facts: Iterable[Fact]) -> _Marks:
    starts: set[datetime] = set()
    ends: list[datetime] = []
    silences: list[tuple[datetime, Mark]] = []
    events: list[Mark] = []
    lanes = _LaneTimes()
    restarts = identity.definition.restarts
    for fact in facts:
        if fact.source == kinds.WIRE:
            events.append(Mark(fact.occurred_at, fact.id))
        elif fact.type == kinds.INTAKE_SILENT:
            silences.append((fact.occurred_at, named_by(fact)))
        if not restarts:
            continue
        interpretation = interpret(identity, fact)
        if interpretation.event is not None and interpretation.event.starts:
            starts.add(fact.occurred_at)
        if ends_run(identity, interpretation, fact):
            ends.append(when(fact))
        if identity.scope == SAGA_SCOPE:
            lanes.note(interpretation, fact)
    return _Marks(sorted(starts), sorted(ends), sorted(silences), sorted(events), lanes.failed())


class _LaneTimes:
    """When each lane opened and when it first failed."""

    def __init__(self) -> None:
        self._opened: dict[str, datetime] = {}
        self._failed: dict[str, datetime] = {}

    def note(self, interpretation: Interpretation, fact: Fact) -> None:
        """Note what a fact says of the lanes that it names."""
        for entity in opened_lanes(interpretation):
            self._opened[entity] = min(self._opened.get(entity, fact.occurred_at), fact.occurred_at)
        if failed := failed_lane(interpretation, fact):
            self._failed[failed] = min(self._failed.get(failed, fact.occurred_at), fact.occurred_at)

    def failed(self) -> list[tuple[datetime, datetime]]:
        """Return (opening, first failure) of each failed lane. One without an opening is of the latest run."""
        return [(self._opened[entity], time) for entity, time in self._failed.items() if entity in self._opened]


def named_by(silence: Fact) -> Mark:
    """Return the event that a silence names: the greatest of its run when it was written."""
    at, event_id = silence.content["after"]
    return Mark(datetime.fromisoformat(at), event_id)


def _between(times: Sequence[datetime], start: datetime | None, end: datetime) -> bool:
    """Return whether a time lies in a segment. times: sorted."""
    first = 0 if start is None else bisect_left(times, start)
    return first < len(times) and times[first] < end


def _lane_failed(marks: _Marks, began: datetime | None, start: datetime) -> bool:
    """Return whether a lane of the run before a start failed before that start."""
    return any(
        (began is None or began <= opened) and opened < start and failed < start for opened, failed in marks.lanes
    )


def _silent(marks: _Marks, began: datetime | None, previous: datetime | None, start: datetime) -> bool:
    """Return whether a silence in the segment before a start was in force then."""
    last = _last(marks.events, began, start)
    return any(
        (previous is None or previous <= time) and time < start and (last is None or last <= named)
        for time, named in marks.silences
    )


def _closed(marks: _Marks, run: RunState, end: datetime | None) -> RunState:
    """Return the run with its greatest silence, and whether a greater event breaks that. end: of the run."""
    own = [
        named
        for time, named in marks.silences
        if (run.began is None or run.began <= time) and (end is None or time < end)
    ]
    if not own:
        return run
    last, silent = _last(marks.events, run.began, end), max(own)
    return run._replace(silent=silent, broken=last is not None and last > silent)


def _last(events: Sequence[Mark], began: datetime | None, end: datetime | None) -> Mark | None:
    """Return the greatest event of a span; None if there is none. events: sorted."""
    number = len(events) if end is None else bisect_left(events, (end, ""))
    if number == 0:
        return None
    last = events[number - 1]
    return last if began is None or began <= last.occurred_at else None
