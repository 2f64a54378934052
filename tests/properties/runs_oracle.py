"""Runs and the end of the intake, read from the rules alone: slowly, over all facts at once, without the engine.

Rules 1-3 of the design, sentence by sentence. What they leave open is answered here, and everything is a function of
the set of facts:

- **Equal times.** A fact belongs to the run of its time, and a run begins at the time of its start: a fact at that very
  instant is in the new run, and so does not precede it. Starts at one instant are one start.
- **The first start** follows a segment too, from the beginning: a failure that occurred before it opens a run. There
  may be a run without a start, and a saga that nothing started (adopted) has one run. An adoption starts the saga, but
  not its task: it opens nothing.
- **The echo of our own deletions** ends no intake: it only counts as such where every lane failed. It opens nothing.
- **A failed upload** is a saga-wide failure in the scope of the saga, and otherwise none.
- **A lane's failure** belongs to the lane's run, whenever it occurred. In the scope of the saga it is that run's
  failure as well: a start opens a run if a lane of the run before it failed before that start. In the scope of the lane
  it opens none, and neither does a lane without an opening, which no earlier run can have.
- **Lanes.** Every fact of an opening type that makes the lane known counts, with its time. A lane without one (one that
  only later events named) is in the latest run, whichever that is. A lane that only decisions named is none, but if
  one of them forces its compensation, that is a failure of a lane of the latest run.
- **What was undone.** A lane in which a command was carried out counts as failed, whoever says so and whenever it
  arrives: a service, a person who marked it as done, or, where that is enough, that it was sent. Of these only a
  service's word fails the run in the scope of the saga. In a saga of several runs such a command is *overtaken* where
  nothing else failed its lane.
- **Decisions** on the whole saga are in the run of the time that they name (`run`), else of their own time. They are
  failures and ends of the intake like any other, so they can let a later start open a run.
- **Silence** is in the run of its own time. What must not be greater than the fact that it names are the Pulsar facts
  in the times of that run, lanes' facts included, whichever run those lanes belong to.
- **A start that follows a silence** opens a run if the silence was in force just before it.
- **A field that says whether the work succeeded** (rule 5): a success means what the type means, a failure what the
  field says of failures, if the event names a lane. Any other text means nothing: it only makes the lane known.
- The intake of a run is over by an event, a closing, or a silence in force. A number of an event beats a person's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sagas.engine import facts as kinds
from sagas.engine.definition import Confirmation, Definition, Entity, Event, Fails, Meaning, meanings
from sagas.engine.facts import Fact
from tests.properties import table

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Told(NamedTuple):
    """What a set of facts comes to."""

    begins: list[datetime | None]  # of each run; None: from the beginning
    run_of: dict[str, int]  # known lane → run
    failed_runs: list[bool]
    required: dict[str, dict[str, str]]  # known lane → command → what holds of it
    outcomes: dict[str, str]
    over: bool  # the intake of the latest run
    announced: int  # by the latest run
    status: str
    overtaken: set[tuple[str, str]]  # (lane, command): done though nothing failed the lane in the run it belongs to


def tell(definition: Definition, scope: str, key: str, saga_id: str, facts: Sequence[Fact], command_id: Any) -> Told:
    """Read all facts of a saga. command_id: the function that names commands."""
    return _Reading(definition, scope, key, saga_id, list({(f.source, f.id): f for f in facts}.values())).told(
        command_id
    )


class _Reading:
    def __init__(self, definition: Definition, scope: str, key: str, saga_id: str, facts: list[Fact]) -> None:
        self.definition, self.scope, self.key, self.saga_id, self.facts = definition, scope, key, saga_id, facts
        self.begins: list[datetime | None] = self._begins()

    # --- rule 1: the runs ---

    def _begins(self) -> list[datetime | None]:
        begins: list[datetime | None] = [None]
        if not self.definition.restarts:
            return begins
        starts = sorted({fact.occurred_at for fact in self.facts if self._starts(fact)})
        before: datetime | None = None  # the previous start
        for start in starts:
            segment = [f for f in self.facts if (before is None or before <= when(f)) and when(f) < start]
            ends = [f for f in segment if self._fails_saga(f) or self._ends_intake(f)]
            silences = [f for f in segment if _is_silence(f) and self._in_force(f, begins[-1], start)]
            lanes = self.scope == "saga" and any(
                (begins[-1] is None or begins[-1] <= opening) and opening < start
                for opening in self._openings_of_failed(start)
            )
            if ends or silences or lanes:
                begins.append(start)
            before = start
        return begins

    def _starts(self, fact: Fact) -> bool:
        event = self._event(fact)
        return event is not None and event.starts

    def _in_force(self, silence: Fact, begin: datetime | None, end: datetime | None) -> bool:
        """No Pulsar fact of the run is greater than the one that it names."""
        at, event_id = silence.content["after"]
        named = datetime.fromisoformat(at), event_id
        return not any(
            (fact.occurred_at, fact.id) > named
            for fact in self.facts
            if fact.source == kinds.WIRE
            and (begin is None or begin <= fact.occurred_at)
            and (end is None or fact.occurred_at < end)
        )

    def run_at(self, time: datetime) -> int:
        return max(number for number, begin in enumerate(self.begins) if begin is None or begin <= time)

    def _of(self, run: int) -> list[Fact]:
        return [fact for fact in self.facts if self.run_at(when(fact)) == run]

    # --- what a fact says ---

    def _event(self, fact: Fact) -> Event | None:
        return self.definition.event_of.get(fact.type) if fact.source == kinds.WIRE else None

    def _means(self, fact: Fact) -> Meaning:
        event = self._event(fact)
        if event is None:
            return Meaning()
        for other in event.instead:
            text = fact.content.get(other.field)
            if isinstance(text, str) and text.lstrip().startswith(other.begins):
                return other.means
        stated = event.success_field
        if stated is None:
            return event.means
        said = fact.content.get(stated.field)
        if _is_in(stated.success, said):
            return event.means
        return stated.fails if _is_in(stated.failure, said) and self._entity(fact) else Meaning()

    def _entity(self, fact: Fact) -> str:
        return fact.entity or fact.lane or ("" if self.definition.entity_field else self.key)

    def _names(self, fact: Fact) -> set[str]:
        """The lanes that an event makes known."""
        event = self._event(fact)
        if event is None:
            return set()
        names = {self._entity(fact)} - {""}
        if event.entity is Entity.EACH:
            listed = fact.content.get(event.listed_in)
            names |= {_canonical(one) for one in listed if isinstance(one, str)} if isinstance(listed, list) else set()
        return names

    def _fails_saga(self, fact: Fact) -> bool:
        fails = self._means(fact).fails
        if fact.source != kinds.WIRE:
            failing = (kinds.SAGA_CANCELLED, kinds.COMPENSATION_FORCED, kinds.SAGA_TERMINATED)
            return fact.type in failing and not fact.entity
        if self.scope == "saga" and self._fails_upload(fact):
            return True
        return fails is Fails.SAGA or (fails is Fails.LANE_ELSE_SAGA and not self._entity(fact))

    def _fails_upload(self, fact: Fact) -> bool:
        return self._means(fact).fails is Fails.UPLOAD or (self._number(fact, "failed") or 0) > 0

    def _ends_intake(self, fact: Fact) -> bool:
        closes = fact.source != kinds.WIRE and fact.type == kinds.INTAKE_CLOSED
        return closes or self._means(fact).ends_intake

    def _number(self, fact: Fact, which: str) -> int | None:
        where = self._means(fact).announces
        numbers = fact.content.get(where.container) if where else None
        value = numbers.get(getattr(where, which)) if isinstance(numbers, dict) else None
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def _announces(self, fact: Fact) -> int | None:
        count, total = self._number(fact, "count"), self._number(fact, "total")
        if count is None and total is not None:
            count = total - (self._number(fact, "failed") or 0)
        return None if count is None else max(count, 0)

    # --- lanes ---

    def _lanes(self) -> dict[str, int]:
        """Each known lane and its run."""
        known = {entity for fact in self.facts for entity in self._names(fact)}
        return {entity: self._run_of(entity) for entity in known}

    def _openings(self, entity: str) -> list[datetime]:
        return [
            fact.occurred_at
            for fact in self.facts
            if (event := self._event(fact)) is not None and event.opening and entity in self._names(fact)
        ]

    def _run_of(self, entity: str) -> int:
        opening = self._openings(entity)
        return self.run_at(min(opening)) if opening else len(self.begins) - 1

    def _openings_of_failed(self, before: datetime) -> list[datetime]:
        """When the lanes opened that had failed by themselves before this time."""
        failing = (Fails.LANE, Fails.LANE_ELSE_SAGA)
        known = {entity for fact in self.facts for entity in self._names(fact)}
        found = []
        for entity in known:
            own = [f for f in self._own(entity) if self._means(f).fails in failing or self._means(f).confirms]
            forced = [f for f in self.facts if f.entity == entity and _forces(f)]
            opening = self._openings(entity)
            if opening and any(fact.occurred_at < before for fact in (*own, *forced)):
                found.append(min(opening))
        return found

    def _own(self, entity: str) -> list[Fact]:
        """The events that are about this one lane, and not only name it."""
        about = {Entity.LANE, Entity.LANE_ELSE_SAGA} | (set() if self.definition.entity_field else {Entity.SAGA})
        return [
            fact
            for fact in self.facts
            if (event := self._event(fact)) is not None and event.entity in about and self._entity(fact) == entity
        ]

    def _forced(self) -> set[str]:
        return {fact.entity for fact in self.facts if fact.entity and _forces(fact)}

    def _lane_failed(self, entity: str) -> bool:
        """By itself, in a way that fails its run in the scope of the saga."""
        return self._has_cause(entity) or any(self._means(fact).confirms for fact in self._own(entity))

    def _has_cause(self, entity: str) -> bool:
        failing = (Fails.LANE, Fails.LANE_ELSE_SAGA)
        return entity in self._forced() or any(self._means(fact).fails in failing for fact in self._own(entity))

    def _done_by_us(self, entity: str) -> bool:
        """Whether a person marked one of its commands as done, or one was sent of which that is enough."""
        for item in self.definition.compensations:
            decided, news = self._of_command(entity, item.command)
            sent = any(fact.type == kinds.COMMAND_PUBLISHED for fact in news)
            if decided[kinds.COMMANDS_MARKED_DONE] or (item.confirmation is Confirmation.PUBLISHED and sent):
                return True
        return False

    def _milestones(self, entity: str) -> set[str]:
        return {means.proves for fact in self._own(entity) if (means := self._means(fact)).proves}

    def _processed(self, entity: str, run: int) -> bool:
        if any(self._means(fact).processes for fact in self._own(entity)):
            return True
        needs = self.definition.processed_needs
        spoken = any(self._means(fact).processes and not self._entity(fact) for fact in self._of(run))
        return spoken and (not needs or needs in self._milestones(entity))

    # --- rule 2: what is required ---

    def _of_command(self, entity: str, command: str) -> tuple[dict[str, list[int]], list[Fact]]:
        """The rounds of the decisions on a command by type, and our own facts about it."""
        own = [fact for fact in self.facts if fact.source != kinds.WIRE]
        decided = {
            type_: [
                n for f in own if f.type == type_ for e, c, n in f.content["commands"] if (e, c) == (entity, command)
            ]
            for type_ in kinds.COMMAND_DECISIONS
        }
        news = [
            f for f in own if f.type in kinds.COMMAND_EVENTS and f.entity == entity and f.content["name"] == command
        ]
        return decided, news

    def _holds(self, entity: str, command: str, run: int, identity: str) -> str:
        """What holds of a required command: the first that applies."""
        decided, news = self._of_command(entity, command)
        sent = any(fact.type == kinds.COMMAND_PUBLISHED for fact in news)
        item = self.definition.compensation_of[command]
        by_service = any(self._means(fact).confirms == command for fact in self._own(entity))
        if by_service or decided[kinds.COMMANDS_MARKED_DONE]:
            return table.CONFIRMED
        if item.confirmation is Confirmation.PUBLISHED and sent:
            return table.CONFIRMED
        terminations = [f for f in self._of(run) if f.source != kinds.WIRE and f.type == kinds.SAGA_TERMINATED]
        claimed = all(identity in fact.content["claimed"] for fact in terminations)
        if decided[kinds.COMMANDS_SKIPPED] or decided[kinds.COMMANDS_WITHDRAWN] or not claimed:
            return table.GIVEN_UP
        again = [f.content["round"] for f in news if f.type == kinds.COMMAND_REQUIRED_AGAIN]
        rounds = max([1, *decided[kinds.COMMANDS_RETRIED], *again])
        exhausted = max([0, *(f.content["round"] for f in news if f.type == kinds.COMMAND_EXHAUSTED)])
        return table.EXHAUSTED if exhausted >= rounds else table.ON_ITS_WAY

    def told(self, command_id: Any) -> Told:
        run_of = self._lanes()
        runs, latest = range(len(self.begins)), len(self.begins) - 1
        unknown = dict.fromkeys(self._forced() - run_of.keys(), latest)
        lanes_failed = {entity: self._lane_failed(entity) for entity in run_of}
        failed_runs = [
            any(self._fails_saga(fact) for fact in self._of(run))
            or (self.scope == "saga" and run in {*(run_of[e] for e in run_of if lanes_failed[e]), *unknown.values()})
            for run in runs
        ]
        required: dict[str, dict[str, str]] = {}
        outcomes: dict[str, str] = {}
        overtaken: set[tuple[str, str]] = set()
        for entity, run in run_of.items():
            # Rule 2: a lane in which something was undone counts as undone, though nothing failed in its run.
            failed = lanes_failed[entity] or failed_runs[run] or self._done_by_us(entity)
            items = [
                item.command
                for item in self.definition.compensations
                if failed and (not item.required_when or item.required_when in self._milestones(entity))
            ]
            required[entity] = {
                name: self._holds(entity, name, run, command_id(self.saga_id, entity, name)) for name in items
            }
            if len(self.begins) > 1 and not (failed_runs[run] or self._has_cause(entity)):
                overtaken |= {(entity, name) for name, word in required[entity].items() if word == table.CONFIRMED}
            held = list(required[entity].values())
            outcomes[entity] = table.outcome_of(failed, self._processed(entity, run), held)
        # Rule 3.
        of_latest = self._of(latest)
        silent = any(_is_silence(f) and self._in_force(f, self.begins[-1], None) for f in of_latest)
        counts = any(m.announces or m.ends_intake for event in self.definition.events for m in meanings(event))
        over = not counts or silent or any(self._ends_intake(fact) for fact in of_latest)
        announced = self._announced(of_latest) if counts else 1
        now = [entity for entity in run_of if run_of[entity] == latest]
        whole = table.Whole(
            failed=failed_runs[latest],
            over=over,
            echoed=any(self._means(fact).echoes_undo for fact in of_latest),
            announced=announced,
            upload_failed=any(self._fails_upload(fact) for fact in of_latest),
            outcomes=[outcomes[entity] for entity in now],
            commands=[held for entity in now for held in required[entity].values()],
        )
        everything = [held for of_lane in required.values() for held in of_lane.values()]
        status = _status(whole, everything)
        return Told(self.begins, run_of, failed_runs, required, outcomes, over, announced, status, overtaken)

    def _announced(self, of_run: list[Fact]) -> int:
        """A number from Pulsar beats a person's, whatever the times."""
        told = [(f.occurred_at, f.id, n) for f in of_run if (n := self._announces(f)) is not None]
        closed: list[tuple[datetime, str, int]] = [
            (f.occurred_at, f.id, f.content["lanes"])
            for f in of_run
            if f.source != kinds.WIRE and f.type == kinds.INTAKE_CLOSED
        ]
        numbers = told or closed
        return max(numbers)[2] if numbers else 0


def when(fact: Fact) -> datetime:
    """The time by which a fact belongs to a run."""
    named = fact.content.get(kinds.RUN) if fact.source != kinds.WIRE else None
    return datetime.fromisoformat(named) if named else fact.occurred_at


def _is_in(values: Sequence[str], said: object) -> bool:
    """Trimmed, in any case."""
    return isinstance(said, str) and said.strip().lower() in [value.strip().lower() for value in values]


def _forces(fact: Fact) -> bool:
    return fact.source != kinds.WIRE and fact.type in (kinds.SAGA_CANCELLED, kinds.COMPENSATION_FORCED)


def _is_silence(fact: Fact) -> bool:
    return fact.source != kinds.WIRE and fact.type == kinds.INTAKE_SILENT


def _canonical(text: str) -> str:
    return text.lower() if UUID.fullmatch(text.lower()) else text


def _status(latest: table.Whole, everything: Sequence[str]) -> str:
    """The first two rows read the commands of all runs, the others the latest run."""
    for row in (table.EXHAUSTED, table.ON_ITS_WAY):
        if row in everything:
            return table.status_of(latest._replace(commands=[row]))
    return table.status_of(latest)
