"""The state of a saga and of each of its lanes: joins over the set of facts, and nothing else.

Every field either only grows, or keeps the least or the greatest value that the facts gave it. So facts may arrive in
any order, in any batches, any number of times. Values are immutable: applying a fact creates new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from operator import add, sub
from typing import Any, NamedTuple

StepKey = tuple[str, str]  # (type, service)


class Mark(NamedTuple):
    """When and by which event something became true.

    Compared by (occurred_at, event id), so that the least mark does not depend on the order of arrival.
    """

    occurred_at: datetime
    event_id: str
    text: str = ""


class StepFacts(NamedTuple):
    """The greatest (rank, occurred_at, event id) that facts gave to a step."""

    rank: int
    occurred_at: datetime
    event_id: str
    event_type: str = ""
    error: str = ""


class CommandFacts(NamedTuple):
    """The facts on one command of a lane."""

    confirmed: Mark | None = None  # by the service
    by_hand: Mark | None = None
    skipped: Mark | None = None
    withdrawn: Mark | None = None
    published: Mark | None = None
    round: int = 1
    exhausted_round: int = 0

    @property
    def answers(self) -> tuple[Mark | None, ...]:
        """What answers the command for good: the marks of the service and of people."""
        return self.confirmed, self.by_hand, self.skipped, self.withdrawn


class Announced(NamedTuple):
    """How many lanes an event announced."""

    occurred_at: datetime
    event_id: str
    lanes: int


class LaneState(NamedTuple):
    """One entity of a saga. `known` is false for the holder of the steps that belong to the saga itself.

    opening: the least time of an event that is marked as opening, which tells the lane's run.
    """

    entity: str
    known: bool = False
    opened_at: datetime | None = None
    failure: Mark | None = None
    forced: Mark | None = None
    processed: bool = False
    milestones: frozenset[str] = frozenset()
    steps: Mapping[StepKey, StepFacts] = {}  # never modified: a fact creates a new mapping
    commands: Mapping[str, CommandFacts] = {}
    opening: datetime | None = None


class SagaCounts(NamedTuple):
    """What one lane adds to the counters of its saga. The counters of the saga are the sum over its lanes."""

    known: int = 0
    open: int = 0
    processed: int = 0
    undoing: int = 0
    undone: int = 0
    settled: int = 0
    on_the_way: int = 0
    exhausted: int = 0
    confirmed: int = 0
    given_up: int = 0
    steps: int = 0
    failed_steps: int = 0

    def plus(self, other: SagaCounts) -> SagaCounts:
        """Return the sum of both."""
        return SagaCounts(*map(add, self, other))

    def replacing(self, was: SagaCounts, now: SagaCounts) -> SagaCounts:
        """Return the sum after one of its parts changed from `was` to `now`."""
        return SagaCounts(*map(add, self, map(sub, now, was)))

    def without(self, other: SagaCounts) -> SagaCounts:
        """Return the difference of both."""
        return SagaCounts(*map(sub, self, other))

    def differences(self, before: SagaCounts) -> dict[str, int]:
        """Return by how much each counter differs from before, by name; without those that are equal."""
        if self == before:
            return {}
        return {name: now - was for name, now, was in zip(SagaCounts._fields, self, before, strict=True) if now != was}

    @property
    def failed_lanes(self) -> int:
        """Lanes that failed, whatever the state of their compensations."""
        return self.undoing + self.undone + self.settled

    @property
    def commands(self) -> int:
        """Commands that were ever required."""
        return self.on_the_way + self.exhausted + self.confirmed + self.given_up


NO_COUNTS = SagaCounts()


class RunState(NamedTuple):
    """What facts say about the saga as a whole in one of its runs.

    began: the time of the start that opened it; None for the first one, which has no beginning. last_start: the latest
    start in it. first_end: the earliest time of a failure of the whole run or of an end of its intake. silent: the
    greatest event that a silence in this run names, and `broken` whether the run has a greater one, so that the silence
    does not count.
    """

    began: datetime | None = None
    last_start: datetime | None = None
    first_end: datetime | None = None
    intake_over: bool = False
    undo_echoed: bool = False
    announced: Announced | None = None
    closed: Announced | None = None  # by a person
    silent: Mark | None = None
    broken: bool = False
    failure: Mark | None = None
    lane_failure: Mark | None = None
    upload_failure: Mark | None = None
    processed_all: bool = False  # an event without an entity reported that every lane is processed
    processing_failed: bool = False  # an event without an entity reported that processing failed
    # The commands that a termination left in flight; None if it was not terminated.
    claimed: frozenset[str] | None = None

    @property
    def is_silent(self) -> bool:
        """Whether a silence ended the intake."""
        return self.silent is not None and not self.broken


class SagaState(NamedTuple):
    """The state of the saga as a whole. Its runs are in the order of time; there is always one.

    counts: over the lanes of all runs. past: over those of all runs but the latest.
    """

    started: Mark | None = None
    correlation: Mark | None = None
    runs: tuple[RunState, ...] = (RunState(),)
    last_at: datetime | None = None
    counts: SagaCounts = NO_COUNTS
    past: SagaCounts = NO_COUNTS

    @property
    def latest(self) -> RunState:
        """The latest run."""
        return self.runs[-1]

    def run_at(self, time: datetime) -> int:
        """Return the number of the run, from 0, in which a time lies."""
        number = len(self.runs) - 1
        while number and time < self.runs[number].began:  # type: ignore[operator] # only the first has no beginning
            number -= 1
        return number

    def run_of(self, lane: LaneState) -> int:
        """Return the number of a lane's run: that of its opening, else the latest."""
        return len(self.runs) - 1 if lane.opening is None else self.run_at(lane.opening)

    def with_run(self, number: int, run: RunState) -> SagaState:
        """Return the saga with another state of one run."""
        return self._replace(runs=(*self.runs[:number], run, *self.runs[number + 1 :]))

    def advanced(self, last_at: datetime | None, counts: SagaCounts) -> SagaState:
        """Return the saga with the time of a later event and new counters. (`_replace` is four times slower.)"""
        # Unpacked by name: a field that is added to the state and missed here raises at the first fact.
        started, correlation, runs, _, _, past = self
        return SagaState(started, correlation, runs, last_at, counts, past)


class CommandState(StrEnum):
    """The state of a required command, as the facts give it."""

    PENDING = "on_the_way"
    EXHAUSTED = "exhausted"
    CONFIRMED = "confirmed"
    SKIPPED = "skipped"
    WITHDRAWN = "withdrawn"


class LaneStatus(StrEnum):
    """The status of a lane."""

    OPEN = "open"
    PROCESSED = "processed"
    UNDOING = "undoing"
    UNDONE = "undone"
    SETTLED = "settled"


class SagaStatus(StrEnum):
    """The status of a saga. The six names are part of the HTTP contract."""

    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    COMPENSATING = "COMPENSATING"
    COMPENSATION_SUCCEEDED = "COMPENSATION_SUCCEEDED"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"


def least(one: Mark | None, other: Mark | None) -> Mark | None:
    """Return the earlier of two marks; the other one where one is None."""
    if one is None or other is None:
        return one or other
    return min(one, other)


# --- as JSON data, for the database ---------------------------------------------------------------------------------


def saga_data(saga: SagaState) -> dict[str, Any]:
    """Return the saga without its counters as JSON data; `saga_from` reads it back to an equal value.

    The latest run stands beside what concerns the saga, so that a saga of one run is stored as before there were runs.
    """
    data = {"started": saga.started, "correlation": saga.correlation, "last_at": saga.last_at}
    plain = {name: _plain(value) for name, value in data.items() if value is not None} | _run_data(saga.latest)
    if len(saga.runs) > 1:
        plain["earlier"] = [_run_data(run) for run in saga.runs[:-1]]
        plain["past"] = saga.past.differences(NO_COUNTS)
    return plain


def saga_from(data: Mapping[str, Any], counts: SagaCounts = NO_COUNTS, last_at: datetime | None = None) -> SagaState:
    """Return the value that `saga_data` wrote.

    counts: the counters, which are stored elsewhere; without them the value tells nothing of its lanes. last_at: used
    where the data does not contain it.
    """
    earlier = data.get("earlier")
    return SagaState(
        started=_mark(data.get("started")),
        correlation=_mark(data.get("correlation")),
        runs=(*map(_run_from, earlier), _run_from(data)) if earlier else (_run_from(data),),
        last_at=datetime.fromisoformat(data["last_at"]) if "last_at" in data else last_at,
        counts=counts,
        past=SagaCounts(**data["past"]) if earlier else NO_COUNTS,
    )


def _run_data(run: RunState) -> dict[str, Any]:
    pairs = zip(RunState._fields, run, strict=True)
    return {name: _plain(value) for name, value in pairs if value is not None and value is not False}


def _run_from(data: Mapping[str, Any]) -> RunState:
    claimed = data.get("claimed")
    return RunState(
        began=_time(data.get("began")),
        last_start=_time(data.get("last_start")),
        first_end=_time(data.get("first_end")),
        intake_over=data.get("intake_over", False),
        undo_echoed=data.get("undo_echoed", False),
        announced=_announced(data.get("announced")),
        closed=_announced(data.get("closed")),
        silent=_mark(data.get("silent")),
        broken=data.get("broken", False),
        failure=_mark(data.get("failure")),
        lane_failure=_mark(data.get("lane_failure")),
        upload_failure=_mark(data.get("upload_failure")),
        processed_all=data.get("processed_all", False),
        processing_failed=data.get("processing_failed", False),
        claimed=None if claimed is None else frozenset(claimed),
    )


def lane_data(lane: LaneState) -> dict[str, Any]:
    """Return the lane without its entity and steps as JSON data; `lane_from` reads it back to an equal value."""
    data: dict[str, Any] = {"opened_at": _plain(lane.opened_at)} if lane.opened_at else {}
    if lane.opening:
        data["opening"] = True if lane.opening == lane.opened_at else _plain(lane.opening)
    if lane.failure:
        data["failure"] = _plain(lane.failure)
    if lane.forced:
        data["forced"] = _plain(lane.forced)
    if lane.processed:
        data["processed"] = True
    if lane.milestones:
        data["milestones"] = sorted(lane.milestones)
    if lane.commands:
        data["commands"] = {name: _command_data(facts) for name, facts in sorted(lane.commands.items())}
    return data


def lane_from(entity: str, known: bool, data: Mapping[str, Any], steps: Mapping[StepKey, StepFacts]) -> LaneState:
    """Return the value that `lane_data` wrote, with the steps that are stored as rows of their own."""
    opened_at = _time(data.get("opened_at"))
    opening = data.get("opening")
    milestones = data.get("milestones")
    commands = data.get("commands")
    return LaneState(
        entity,
        known,
        opened_at,
        _mark(data.get("failure")),
        _mark(data.get("forced")),
        data.get("processed", False),
        frozenset(milestones) if milestones else frozenset(),
        steps,
        {name: _command_from(facts) for name, facts in commands.items()} if commands else {},
        opened_at if opening is True else _time(opening),
    )


def _command_data(facts: CommandFacts) -> dict[str, Any]:
    defaults = CommandFacts()
    return {
        name: _plain(value)
        for name, value, default in zip(CommandFacts._fields, facts, defaults, strict=True)
        if value != default
    }


def _command_from(data: Mapping[str, Any]) -> CommandFacts:
    return CommandFacts(
        confirmed=_mark(data.get("confirmed")),
        by_hand=_mark(data.get("by_hand")),
        skipped=_mark(data.get("skipped")),
        withdrawn=_mark(data.get("withdrawn")),
        published=_mark(data.get("published")),
        round=data.get("round", 1),
        exhausted_round=data.get("exhausted_round", 0),
    )


def _time(data: Any) -> datetime | None:
    return datetime.fromisoformat(data) if data else None


def _announced(data: Any) -> Announced | None:
    return Announced(datetime.fromisoformat(data[0]), data[1], data[2]) if data else None


def _mark(data: Any) -> Mark | None:
    return Mark(datetime.fromisoformat(data[0]), data[1], data[2]) if data else None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return value
