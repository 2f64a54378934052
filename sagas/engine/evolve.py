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
from sagas.engine.definition import Announcement, Definition, Entity, Event, Fails, Meaning, Step
from sagas.engine.facts import Fact
from sagas.engine.ids import canonical_id
from sagas.engine.state import Announced, CommandFacts, LaneState, Mark, SagaState, StepFacts, StepKey, least

NO_MEANING = Meaning()

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


def interpret(identity: SagaIdentity, fact: Fact) -> Interpretation:
    """Return what this fact means for this saga."""
    if fact.source != kinds.WIRE:
        return Interpretation(None, NO_MEANING, fact.entity, _touched_by_own_fact(fact))
    definition = identity.definition
    event = definition.event_of.get(fact.type)
    if event is None:
        return Interpretation(None, NO_MEANING, "", ())
    means = reading(event, fact)
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


def reading(event: Event, fact: Fact) -> Meaning:
    """Return the meaning of this fact: that of its type, unless a text in it begins as another meaning requires."""
    for other in event.instead:
        text = fact.content.get(other.field)
        if isinstance(text, str) and unicodedata.normalize("NFC", text).lstrip().startswith(other.begins):
            return other.means
    return event.means


def meaning_of(definition: Definition, fact: Fact) -> Meaning:
    """Return what a fact from Pulsar means under a definition; NO_MEANING if the definition does not know its type."""
    event = definition.event_of.get(fact.type)
    return reading(event, fact) if event is not None and fact.source == kinds.WIRE else NO_MEANING


def listed(event: Event, fact: Fact) -> list[str]:
    """Return the entities that an event lists, in order; empty if its list is missing or malformed.

    The event log stores the ids of a list as received.
    """
    ids = fact.content.get(event.listed_in)
    return [canonical_id(entity) for entity in ids if isinstance(entity, str)] if isinstance(ids, list) else []


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


def evolve_saga(saga: SagaState, interpretation: Interpretation, fact: Fact) -> SagaState:
    """Return the saga after this fact, without the time of its last event and without its counters.

    They change with nearly every fact: `Fold` sets them together. The result is mostly the saga itself.
    """
    event = interpretation.event
    changed = _decision_to_saga(saga, fact) if event is None else _event_to_saga(saga, event, interpretation, fact)
    if fact.correlation:
        correlation = least(saga.correlation, Mark(fact.occurred_at, fact.id, fact.correlation))
        if correlation is not saga.correlation:
            changed["correlation"] = correlation
    return saga._replace(**changed) if changed else saga


def evolve_lane(lane: LaneState, interpretation: Interpretation, fact: Fact) -> LaneState:
    """Return a lane that the fact touches, after this fact."""
    event, means = interpretation.event, interpretation.means
    if event is None:
        return _own_fact_to_lane(lane, fact)
    entity, known, opened_at, failure, forced, processed, milestones, steps, commands = lane
    if entity == interpretation.entity or event.entity is EACH:
        known = True
        opened_at = fact.occurred_at if opened_at is None or fact.occurred_at < opened_at else opened_at
    if means.step is not None and entity != interpretation.referenced_only:
        steps = _with_step(steps, means.step, event, means, fact)
    if entity == interpretation.entity and entity != interpretation.referenced_only:
        if means.proves and means.proves not in milestones:
            milestones = milestones | {means.proves}
        if means.fails is not None and means.fails is not Fails.SAGA:
            failure = least(failure, _error(event, fact))
        if means.confirms:
            commands = _with(lane, means.confirms, _confirmed(fact))
        processed = processed or means.processes
    return LaneState(entity, known, opened_at, failure, forced, processed, milestones, steps, commands)


def folded_lane_failure(saga: SagaState, lane: LaneState) -> SagaState:
    """Return the saga with the failure of this lane, if it is the earliest failure of a lane."""
    mark = lane_mark(lane)
    if mark is None or (saga.lane_failure is not None and saga.lane_failure <= mark):
        return saga
    return saga._replace(lane_failure=mark)


# --- facts from Pulsar ----------------------------------------------------------------------------------------------


def _fails_saga(interpretation: Interpretation) -> bool:
    fails = interpretation.means.fails
    return fails is not None and (fails is Fails.SAGA or (fails is Fails.LANE_ELSE_SAGA and not interpretation.entity))


def _event_to_saga(saga: SagaState, event: Event, interpretation: Interpretation, fact: Fact) -> dict[str, Any]:
    means = interpretation.means
    changed: dict[str, Any] = {}
    if event.starts:
        changed["started"] = least(saga.started, Mark(fact.occurred_at, fact.id))
    if means.ends_intake:
        changed["intake_over"] = True
    if means.echoes_undo:
        changed["undo_echoed"] = True
    if means.processes and not interpretation.entity:
        changed["processed_all"] = True
    if means.fails is not None:
        changed |= _failed(saga, event, interpretation, fact)
    if means.announces is not None:
        changed |= _announced(saga, means.announces, fact)
    return changed


def _failed(saga: SagaState, event: Event, interpretation: Interpretation, fact: Fact) -> dict[str, Any]:
    error = _error(event, fact)
    if interpretation.means.fails is Fails.UPLOAD:
        return {"upload_failure": least(saga.upload_failure, error)}
    if not _fails_saga(interpretation):
        return {}
    failure = least(saga.failure, error)
    if interpretation.means.fails is Fails.SAGA:
        return {"failure": failure}
    return {"failure": failure, "processing_failed": True}


def _announced(saga: SagaState, where: Announcement, fact: Fact) -> dict[str, Any]:
    container = fact.content.get(where.container)
    numbers: Mapping[str, Any] = container if isinstance(container, dict) else {}
    count, total, failed = (_number(numbers.get(name)) for name in (where.count, where.total, where.failed))
    changed: dict[str, Any] = {}
    if failed is not None and failed > 0:
        text = f"{failed} could not be retrieved"  # part of the stored state: see _confirmed
        changed["upload_failure"] = least(saga.upload_failure, Mark(fact.occurred_at, fact.id, text))
    if count is None and total is not None:
        count = total - (failed or 0)
    if count is not None:
        announced = Announced(fact.occurred_at, fact.id, max(count, 0))
        changed["announced"] = announced if saga.announced is None else max(saga.announced, announced)
    return changed


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _with_step(
    steps: Mapping[StepKey, StepFacts], step: Step, event: Event, means: Meaning, fact: Fact
) -> Mapping[StepKey, StepFacts]:
    key = (step.type, step.service)
    error = _error(event, fact).text if means.fails else ""
    new = StepFacts(means.rank, fact.occurred_at, fact.id, fact.type, error)
    known = steps.get(key)
    if known is not None and known[:3] >= new[:3]:
        return steps
    return {**steps, key: new}


def _confirmed(fact: Fact) -> Callable[[CommandFacts], CommandFacts]:
    # The texts of marks are part of the stored state, and a replay compares them: changing one would make every stored
    # saga that has it differ from its replay.
    text = f"{fact.type} arrived without an earlier failure: it was undone by somebody else"
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


def _decision_to_saga(saga: SagaState, fact: Fact) -> dict[str, Any]:
    if fact.entity or fact.source == kinds.WIRE:
        return {}
    text = _decision_text(fact)
    if fact.type in (kinds.SAGA_CANCELLED, kinds.COMPENSATION_FORCED):
        return {"failure": least(saga.failure, Mark(fact.occurred_at, fact.id, text))}
    if fact.type == kinds.SAGA_TERMINATED:
        claimed = frozenset(fact.content.get("claimed", []))
        both = claimed if saga.claimed is None else saga.claimed & claimed
        return {"failure": least(saga.failure, Mark(fact.occurred_at, fact.id, text)), "claimed": both}
    if fact.type == kinds.SAGA_ADOPTED:
        started_at = fact.content.get("started_at")
        when = datetime.fromisoformat(started_at) if started_at else fact.occurred_at
        return {"started": least(saga.started, Mark(when, fact.id))}
    return {}


def _decision_text(fact: Fact) -> str:
    verb = {
        kinds.SAGA_CANCELLED: "Cancelled",
        kinds.COMPENSATION_FORCED: "Compensation forced",
        kinds.SAGA_TERMINATED: "Terminated",
    }.get(fact.type, fact.type)
    return f"{verb}: {fact.content.get('reason', '')}"[:ERROR_LIMIT]


def _own_fact_to_lane(lane: LaneState, fact: Fact) -> LaneState:
    if fact.type in (kinds.SAGA_CANCELLED, kinds.COMPENSATION_FORCED) and fact.entity == lane.entity:
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
        return known._replace(published=least(known.published, Mark(fact.occurred_at, fact.id)))

    return join


def _with(lane: LaneState, command: str, join: Callable[[CommandFacts], CommandFacts]) -> Mapping[str, CommandFacts]:
    return {**lane.commands, command: join(lane.commands.get(command, CommandFacts()))}
