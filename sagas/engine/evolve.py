"""Apply one fact to a state. Pure, total, and a join: every fact is legal in every state.

A fact is interpreted once (`interpret`), from its own content, never from what is in flight when it arrives. Then it
changes the saga (`evolve_saga`) and each lane that it touches (`evolve_lane`). The steps of the saga itself are held by
a lane of their own, whose entity is the key of the saga.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sagas.engine import facts as kinds
from sagas.engine.decide import SAGA_SCOPE, SagaIdentity, lane_mark
from sagas.engine.definition import NO_MEANING, Announcement, Definition, Entity, Event, Fails, Meaning, Step
from sagas.engine.facts import Fact
from sagas.engine.ids import canonical_id
from sagas.engine.state import Announced, CommandFacts, LaneState, Mark, RunState, SagaState, StepFacts, StepKey, least

# Looking up a member of an enum costs as much as a small function call, and these are read for each fact.
SAGA, LANE, LANE_ELSE_SAGA, EACH = Entity.SAGA, Entity.LANE, Entity.LANE_ELSE_SAGA, Entity.EACH

# Characters of an error that are kept in the state, which lists show; the whole text stays in the event.
ERROR_LIMIT = 1000


class Interpretation(NamedTuple):
    """What a fact means for one saga. `event` is None for facts of our own and for types that the definition lacks."""

    event: Event | None
    means: Meaning
    entity: str  # the entity that the fact is about; the key in a saga without entities
    touched: tuple[str, ...]  # the entities of the lanes that it changes, without repeats
    referenced_only: str = ""  # the one of these that the fact only proves to exist

    @property
    def is_unclear(self) -> bool:
        """Whether the event does not say whether the work succeeded, and therefore changes nothing."""
        return self.event is not None and self.event.success_field is not None and self.means is NO_MEANING


def interpret(identity: SagaIdentity, fact: Fact) -> Interpretation:
    """Return what this fact means for this saga."""
    if fact.source != kinds.WIRE:
        return Interpretation(None, NO_MEANING, fact.entity, _touched_by_own_fact(fact))
    definition = identity.definition
    event = definition.event_of.get(fact.type)
    if event is None:
        return Interpretation(None, NO_MEANING, "", ())
    means = reading(definition, event, fact)
    entity = fact.entity or fact.lane or ("" if definition.entity_field else identity.key)
    if entity and (event.entity is LANE or event.entity is LANE_ELSE_SAGA):
        return Interpretation(event, means, entity, (entity,))
    touched = _touched(identity, event, fact)
    if not entity or entity in touched:
        return Interpretation(event, means, entity, touched)
    return Interpretation(event, means, entity, (entity, *touched), referenced_only=entity)


def _touched(identity: SagaIdentity, event: Event, fact: Fact) -> tuple[str, ...]:
    """Return the entities of the lanes whose steps an event changes that is not about the one entity that it names."""
    if event.entity is EACH:
        return tuple(dict.fromkeys(listed(event, fact)))
    if event.entity is SAGA or event.entity is LANE_ELSE_SAGA:
        return (identity.key,)
    return () if event.entity is LANE else (fact.id,)


def reading(definition: Definition, event: Event, fact: Fact) -> Meaning:
    """Return the meaning of this fact: that of its type, unless its content says that it means something else."""
    for other in event.instead:
        text = fact.content.get(other.field)
        if isinstance(text, str) and unicodedata.normalize("NFC", text).lstrip().startswith(other.begins):
            return other.means
    if event.success_field is None:
        return event.means
    names_lane = bool(fact.names) or not definition.entity_field
    return event.success_field.meaning(fact.content.get(event.success_field.field), event.means, names_lane)


def meaning_of(definition: Definition, fact: Fact) -> Meaning:
    """Return what a fact from Pulsar means under a definition; NO_MEANING if the definition does not know its type."""
    event = definition.event_of.get(fact.type)
    return reading(definition, event, fact) if event is not None and fact.source == kinds.WIRE else NO_MEANING


def listed(event: Event, fact: Fact) -> list[str]:
    """Return the entities that an event lists, in order; empty if its list is missing or malformed.

    The event log stores the ids of a list as received.
    """
    ids = fact.content.get(event.listed_in)
    return [canonical_id(entity) for entity in ids if isinstance(entity, str)] if isinstance(ids, list) else []


def when(fact: Fact) -> datetime:
    """Return the time by which a fact about the whole saga belongs to a run.

    It is its own, unless it is a decision that names another: the clocks of people and services differ.
    """
    named = fact.content.get(kinds.RUN) if fact.source != kinds.WIRE else None
    return datetime.fromisoformat(named) if named else fact.occurred_at


def ends_run(identity: SagaIdentity, interpretation: Interpretation, fact: Fact) -> bool:
    """Return whether a fact fails a run as a whole, by itself, or ends its intake, so that a later start opens another.

    Failed lanes (scope saga) and silence are another matter: whether they count depends on other facts.
    """
    if fact.source != kinds.WIRE:
        return (fact.type in kinds.FAILING_DECISIONS and not fact.entity) or fact.type == kinds.INTAKE_CLOSED
    if interpretation.means.ends_intake or _fails_saga(interpretation):
        return True
    return identity.scope == SAGA_SCOPE and _upload_failure(interpretation, fact) is not None


def failed_lane(interpretation: Interpretation, fact: Fact) -> str:
    """Return the entity of the lane that a fact fails by itself; empty if it fails none."""
    if fact.source != kinds.WIRE:
        return fact.entity if fact.type in kinds.LANE_DECISIONS else ""
    entity, means = interpretation.entity, interpretation.means
    fails = bool(means.confirms) or means.fails not in (None, Fails.SAGA)
    return entity if fails and entity != interpretation.referenced_only else ""


def opened_lanes(interpretation: Interpretation) -> tuple[str, ...]:
    """Return the entities of the lanes of which a fact tells when they came into being."""
    event = interpretation.event
    if event is None or not event.opening:
        return ()
    if event.entity is EACH:
        return interpretation.touched
    return (interpretation.entity,) if interpretation.entity else ()


def breaks_silence(run: RunState, fact: Fact) -> bool:
    """Return whether an event of a run is greater than the one that the silence in force names."""
    if run.silent is None or run.broken or fact.source != kinds.WIRE:
        return False
    return (fact.occurred_at, fact.id) > (run.silent.occurred_at, run.silent.event_id)


def needs_all_lanes(identity: SagaIdentity, fact: Fact, interpretation: Interpretation) -> bool:
    """Return whether a fact may change lanes that it does not name, so that folding it needs all lanes.

    With failure scope saga, this is every fact that can fail or undo a lane or report a failed upload.
    """
    lanes_fail_saga = identity.scope == SAGA_SCOPE
    if fact.source != kinds.WIRE:
        return fact.type in kinds.SAGA_DECISIONS and (not fact.entity or lanes_fail_saga)
    if _fails_saga(interpretation) or (interpretation.means.processes and not interpretation.entity):
        return True
    return lanes_fail_saga and bool(
        interpretation.means.fails or interpretation.means.confirms or interpretation.means.announces
    )


def evolve_saga(identity: SagaIdentity, saga: SagaState, interpretation: Interpretation, fact: Fact) -> SagaState:
    """Return the saga after this fact, without the time of its last event and without its counters.

    They change with nearly every fact: `Fold` sets them together. The result is mostly the saga itself. The fact must
    not move the runs of the saga: see `sagas.engine.runs`.
    """
    event = interpretation.event
    changed: dict[str, Any] = {}
    if event is None:
        number = saga.run_at(when(fact))
        in_run = _decision_to_run(saga.runs[number], fact)
        if fact.type == kinds.SAGA_ADOPTED and fact.source != kinds.WIRE:
            changed["started"] = _adopted(saga, fact)
    else:
        number = saga.run_at(fact.occurred_at)
        in_run = _event_to_run(saga.runs[number], event, interpretation, fact)
        if event.starts:
            changed["started"] = least(saga.started, Mark(fact.occurred_at, fact.id))
    run = saga.runs[number]
    if identity.definition.restarts:
        in_run |= _span(identity, run, interpretation, fact)
    if run.silent is not None and breaks_silence(run, fact):
        in_run["broken"] = True
    if in_run:
        changed["runs"] = (*saga.runs[:number], run._replace(**in_run), *saga.runs[number + 1 :])
    if fact.correlation:
        correlation = least(saga.correlation, Mark(fact.occurred_at, fact.id, fact.correlation))
        if correlation is not saga.correlation:
            changed["correlation"] = correlation
    return saga._replace(**changed) if changed else saga


def _span(identity: SagaIdentity, run: RunState, interpretation: Interpretation, fact: Fact) -> dict[str, Any]:
    """Return what changes of the starts and ends that a run remembers."""
    event, time = interpretation.event, when(fact)
    if event is not None and event.starts:
        return {"last_start": time if run.last_start is None else max(run.last_start, time)}
    if ends_run(identity, interpretation, fact):
        return {"first_end": time if run.first_end is None else min(run.first_end, time)}
    return {}


def evolve_lane(
    lane: LaneState,
    interpretation: Interpretation,
    fact: Fact,
    restarts: bool = False,
    since: datetime | None = None,
) -> LaneState:
    """Return a lane that the fact touches, after this fact.

    restarts: whether the saga may have several runs. since: when the latest run began, if the lane holds the steps of
    the saga itself: facts of that run come first.
    """
    event, means = interpretation.event, interpretation.means
    if event is None:
        return _own_fact_to_lane(lane, fact)
    entity, known, opened_at, failure, forced, processed, milestones, steps, commands, opening = lane
    if entity == interpretation.entity or event.entity is EACH:
        known = True
        opened_at = fact.occurred_at if opened_at is None or fact.occurred_at < opened_at else opened_at
        if event.opening and (opening is None or fact.occurred_at < opening):
            opening = fact.occurred_at
    if means.step is not None and entity != interpretation.referenced_only:
        steps = _with_step(steps, means.step, event, means, fact, since)
    if entity == interpretation.entity and entity != interpretation.referenced_only:
        if means.proves and means.proves not in milestones:
            milestones = milestones | {means.proves}
        if means.fails is not None and means.fails is not Fails.SAGA:
            failure = least(failure, _error(event, fact))
        if means.confirms:
            commands = _with(lane, means.confirms, _confirmed(fact, restarts))
        processed = processed or means.processes
    return LaneState(entity, known, opened_at, failure, forced, processed, milestones, steps, commands, opening)


def folded_lane_failure(saga: SagaState, lane: LaneState) -> SagaState:
    """Return the saga with the failure of this lane, if it is the earliest failure of a lane of its run."""
    mark = lane_mark(lane)
    if mark is None:
        return saga
    number = saga.run_of(lane)
    run = saga.runs[number]
    if run.lane_failure is not None and run.lane_failure <= mark:
        return saga
    return saga.with_run(number, run._replace(lane_failure=mark))


# --- facts from Pulsar ----------------------------------------------------------------------------------------------


def _fails_saga(interpretation: Interpretation) -> bool:
    fails = interpretation.means.fails
    return fails is not None and (fails is Fails.SAGA or (fails is Fails.LANE_ELSE_SAGA and not interpretation.entity))


def _event_to_run(run: RunState, event: Event, interpretation: Interpretation, fact: Fact) -> dict[str, Any]:
    means = interpretation.means
    changed: dict[str, Any] = {}
    if means.ends_intake:
        changed["intake_over"] = True
    if means.echoes_undo:
        changed["undo_echoed"] = True
    if means.processes and not interpretation.entity:
        changed["processed_all"] = True
    if means.fails is not None and _fails_saga(interpretation):
        changed["failure"] = least(run.failure, _error(event, fact))
        if means.fails is not Fails.SAGA:
            changed["processing_failed"] = True
    if means.fails is Fails.UPLOAD or means.announces is not None:
        changed |= _uploads(run, interpretation, fact)
    return changed


def _uploads(run: RunState, interpretation: Interpretation, fact: Fact) -> dict[str, Any]:
    """Return what changes by failed uploads and by the announced number of lanes."""
    changed: dict[str, Any] = {}
    failure = _upload_failure(interpretation, fact)
    if failure is not None:
        changed["upload_failure"] = least(run.upload_failure, failure)
    lanes = _announced_lanes(interpretation.means.announces, fact)
    if lanes is not None:
        announced = Announced(fact.occurred_at, fact.id, lanes)
        changed["announced"] = announced if run.announced is None else max(run.announced, announced)
    return changed


def _upload_failure(interpretation: Interpretation, fact: Fact) -> Mark | None:
    """Return the failed uploads that an event reports, if it reports any."""
    event, means = interpretation.event, interpretation.means
    if event is not None and means.fails is Fails.UPLOAD:
        return _error(event, fact)
    failed = _numbers(means.announces, fact)[2] if means.announces is not None else None
    if failed is None or failed <= 0:
        return None
    text = f"{failed} could not be retrieved"  # part of the stored state: see _confirmed
    return Mark(fact.occurred_at, fact.id, text)


def _announced_lanes(where: Announcement | None, fact: Fact) -> int | None:
    if where is None:
        return None
    count, total, failed = _numbers(where, fact)
    if count is None and total is not None:
        count = total - (failed or 0)
    return None if count is None else max(count, 0)


def _numbers(where: Announcement, fact: Fact) -> tuple[int | None, int | None, int | None]:
    """Return how many lanes an event announces, how many there are in total, and how many failed."""
    container = fact.content.get(where.container)
    numbers: Mapping[str, Any] = container if isinstance(container, dict) else {}
    return (
        _number(numbers.get(where.count)),
        _number(numbers.get(where.total)),
        _number(numbers.get(where.failed)),
    )


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _with_step(
    steps: Mapping[StepKey, StepFacts], step: Step, event: Event, means: Meaning, fact: Fact, since: datetime | None
) -> Mapping[StepKey, StepFacts]:
    key = (step.type, step.service)
    error = _error(event, fact).text if means.fails else ""
    new = StepFacts(means.rank, fact.occurred_at, fact.id, fact.type, error)
    known = steps.get(key)
    if known is None:
        return {**steps, key: new}
    if since is not None and (known.occurred_at < since) is not (new.occurred_at < since):
        return steps if new.occurred_at < since else {**steps, key: new}
    return steps if known[:3] >= new[:3] else {**steps, key: new}


def _confirmed(fact: Fact, restarts: bool) -> Callable[[CommandFacts], CommandFacts]:
    # The texts of marks are part of the stored state, and a replay compares them: changing one would make every stored
    # saga that has it differ from its replay.
    text = f"{fact.type} arrived without an earlier failure: it was undone by somebody else"
    if restarts:
        text += ", or by a command that was sent before the restart"
    mark = Mark(fact.occurred_at, fact.id, text)
    return lambda known: known._replace(confirmed=least(known.confirmed, mark))


def _error(event: Event, fact: Fact) -> Mark:
    content = fact.content.get(event.error_in)
    text = content.strip()[:ERROR_LIMIT] if isinstance(content, str) else ""
    return Mark(fact.occurred_at, fact.id, text or fact.type)


# --- facts of our own -----------------------------------------------------------------------------------------------


def _touched_by_own_fact(fact: Fact) -> tuple[str, ...]:
    if fact.type in kinds.COMMAND_DECISIONS:
        return tuple(dict.fromkeys(entity for entity, _, _ in _commands(fact)))
    return (fact.entity,) if fact.entity else ()


def _commands(fact: Fact) -> list[tuple[str, str, int]]:
    return [(entity, command, int(number)) for entity, command, number in fact.content.get("commands", [])]


def _decision_to_run(run: RunState, fact: Fact) -> dict[str, Any]:
    if fact.entity or fact.source == kinds.WIRE:
        return {}
    if fact.type == kinds.INTAKE_CLOSED:
        closed = Announced(fact.occurred_at, fact.id, max(int(fact.content.get("lanes", 0)), 0))
        return {"closed": closed if run.closed is None else max(run.closed, closed)}
    if fact.type not in kinds.FAILING_DECISIONS:
        return {}
    failure = least(run.failure, Mark(fact.occurred_at, fact.id, _decision_text(fact)))
    if fact.type != kinds.SAGA_TERMINATED:
        return {"failure": failure}
    claimed = frozenset(fact.content.get("claimed", []))
    return {"failure": failure, "claimed": claimed if run.claimed is None else run.claimed & claimed}


def _adopted(saga: SagaState, fact: Fact) -> Mark | None:
    started_at = fact.content.get("started_at")
    when = datetime.fromisoformat(started_at) if started_at else fact.occurred_at
    return least(saga.started, Mark(when, fact.id))


def _decision_text(fact: Fact) -> str:
    verb = {
        kinds.SAGA_CANCELLED: "Cancelled",
        kinds.COMPENSATION_FORCED: "Compensation forced",
        kinds.SAGA_TERMINATED: "Terminated",
    }.get(fact.type, fact.type)
    return f"{verb}: {fact.content.get('reason', '')}"[:ERROR_LIMIT]


def _own_fact_to_lane(lane: LaneState, fact: Fact) -> LaneState:
    if fact.type in kinds.LANE_DECISIONS and fact.entity == lane.entity:
        mark = Mark(fact.occurred_at, fact.id, _decision_text(fact))
        return lane._replace(forced=least(lane.forced, mark))
    if fact.type in kinds.COMMAND_DECISIONS:
        for entity, command, number in _commands(fact):
            if entity == lane.entity:
                lane = lane._replace(commands=_with(lane, command, _decided(fact, number)))
        return lane
    if fact.type in kinds.COMMAND_EVENTS and fact.entity == lane.entity:
        return lane._replace(commands=_with(lane, str(fact.content.get("name", "")), _progress(fact)))
    return lane


def _decided(fact: Fact, number: int) -> Callable[[CommandFacts], CommandFacts]:
    mark = Mark(fact.occurred_at, fact.id, str(fact.content.get("reason", "")))

    def join(known: CommandFacts) -> CommandFacts:
        if fact.type == kinds.COMMANDS_RETRIED:
            return known._replace(round=max(known.round, number))
        if fact.type == kinds.COMMANDS_SKIPPED:
            return known._replace(skipped=least(known.skipped, mark))
        if fact.type == kinds.COMMANDS_MARKED_DONE:
            return known._replace(by_hand=least(known.by_hand, mark))
        return known._replace(withdrawn=least(known.withdrawn, mark))

    return join


def _progress(fact: Fact) -> Callable[[CommandFacts], CommandFacts]:
    number = int(fact.content.get("round", 1))

    def join(known: CommandFacts) -> CommandFacts:
        if fact.type == kinds.COMMAND_EXHAUSTED:
            return known._replace(exhausted_round=max(known.exhausted_round, number))
        if fact.type == kinds.COMMAND_REQUIRED_AGAIN:
            return known._replace(round=max(known.round, number))
        return known._replace(published=least(known.published, Mark(fact.occurred_at, fact.id)))

    return join


def _with(lane: LaneState, command: str, join: Callable[[CommandFacts], CommandFacts]) -> Mapping[str, CommandFacts]:
    return {**lane.commands, command: join(lane.commands.get(command, CommandFacts()))}
