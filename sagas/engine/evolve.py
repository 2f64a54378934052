"""What one fact adds to what is known. Pure, total, and a join: every fact is legal in every state.

A fact touches the saga (`evolve_saga`) and the lanes that `touches` names (`evolve_lane`). What it means is read from
its own content (`reading`) and never from what is in flight when it arrives.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sagas.engine import facts as kinds
from sagas.engine.decide import SAGA_SCOPE, Frame, lane_mark
from sagas.engine.definition import FACT_RANK, Announcement, Definition, Entity, Event, Fails, Meaning
from sagas.engine.facts import Fact
from sagas.engine.state import Announced, CommandFacts, Lane, Mark, Saga, StepFacts, greatest, least

NOTHING = Meaning()

# error_message is shown to staff in lists; the whole text stays in the event.
ERROR_LIMIT = 1000


def reading(event: Event, fact: Fact) -> Meaning:
    """What this fact means: the type's meaning, unless its text begins with the words of another."""
    for other in event.instead:
        text = fact.content.get(other.field)
        if isinstance(text, str) and unicodedata.normalize("NFC", text).lstrip().startswith(other.begins):
            return other.means
    return event.means


def meaning_of(definition: Definition, fact: Fact) -> Meaning:
    """What a fact from the wire means under a definition; nothing where the definition does not know its type."""
    event = definition.event_of.get(fact.type)
    return reading(event, fact) if event is not None and fact.source == kinds.WIRE else NOTHING


def named(frame: Frame, fact: Fact) -> str:
    """The entity that a fact is about; in a saga without entities the saga is its own."""
    return fact.names or ("" if frame.definition.entity_field else frame.key)


def touches(frame: Frame, fact: Fact) -> tuple[str, ...]:
    """The holders whose content a fact changes: lanes by entity, the key for the saga's own steps. No repeats."""
    if fact.source != kinds.WIRE:
        return _touched_by_our_own(fact)
    event = frame.definition.event_of.get(fact.type)
    if event is None:
        return ()
    entity = named(frame, fact)
    touched = [entity] if entity else []
    match event.entity:
        case Entity.TASK:
            touched.append(frame.key)
        case Entity.LANE_ELSE_TASK if not entity:
            touched.append(frame.key)
        case Entity.EVENT:
            touched.append(fact.id)
        case Entity.EACH:
            touched.extend(listed(event, fact))
    return tuple(dict.fromkeys(touched))


def listed(event: Event, fact: Fact) -> list[str]:
    """The entities of an event that speaks for each of a list."""
    ids = fact.content.get(event.listed_in)
    return [entity for entity in ids if isinstance(entity, str)] if isinstance(ids, list) else []


def speaks_for_all(frame: Frame, fact: Fact) -> bool:
    """Whether a fact may change what holds of lanes that it does not name, so that all of them are needed to fold it.

    Where a lane's failure is the saga's, each fact that can fail or undo a lane is one.
    """
    if fact.source != kinds.WIRE:
        return fact.type in kinds.SAGA_DECISIONS and (not fact.entity or _lanes_fail_saga(frame))
    means = meaning_of(frame.definition, fact)
    entity = named(frame, fact)
    if means.fails is Fails.SAGA or (means.fails is Fails.LANE_ELSE_SAGA and not entity):
        return True
    if means.processes and not entity:
        return True
    return _lanes_fail_saga(frame) and bool(means.fails or means.confirms)


def evolve_saga(frame: Frame, saga: Saga, fact: Fact) -> Saga:
    """The saga, knowing this fact too (without what its lanes then add to the counters)."""
    changed: dict[str, Any] = {"last_at": greatest(saga.last_at, fact.occurred_at)}
    if fact.correlation:
        changed["correlation"] = least(saga.correlation, Mark(fact.occurred_at, fact.id, fact.correlation))
    if fact.source == kinds.WIRE:
        changed |= _wire_to_saga(frame, saga, fact)
    else:
        changed |= _decision_to_saga(saga, fact)
    return saga._replace(**changed)


def evolve_lane(frame: Frame, lane: Lane, fact: Fact) -> Lane:
    """A holder that `touches` names, knowing this fact too."""
    if fact.source != kinds.WIRE:
        return _own_to_lane(lane, fact)
    event = frame.definition.event_of.get(fact.type)
    if event is None:
        return lane
    means = reading(event, fact)
    if _is_lane(frame, event, lane.entity, fact):
        lane = lane._replace(known=True, opened_at=_earlier(lane.opened_at, fact.occurred_at))
    if not _moves(frame, event, lane.entity, fact):
        return lane
    return _wire_to_lane(frame, event, means, lane, fact)


def folded_lane_failure(saga: Saga, lane: Lane) -> Saga:
    """The saga, knowing what its lane failed of: the first lane's error is kept as a least."""
    mark = lane_mark(lane)
    if mark is None or (saga.lane_failure is not None and saga.lane_failure <= mark):
        return saga
    return saga._replace(lane_failure=mark)


# --- facts from the wire --------------------------------------------------------------------------------------------


def _wire_to_saga(frame: Frame, saga: Saga, fact: Fact) -> dict[str, Any]:
    event = frame.definition.event_of.get(fact.type)
    if event is None:
        return {}
    means = reading(event, fact)
    changed: dict[str, Any] = {}
    entity = named(frame, fact)
    if event.starts:
        changed["started"] = least(saga.started, Mark(fact.occurred_at, fact.id))
    if means.ends_intake:
        changed["intake_over"] = True
    if means.echoes_undo:
        changed["undo_echoed"] = True
    if means.processes and not entity:
        changed["processed_all"] = True
    if means.fails is Fails.SAGA or (means.fails is Fails.LANE_ELSE_SAGA and not entity):
        changed["failure"] = least(saga.failure, _error(event, fact))
    if means.fails is Fails.LANE_ELSE_SAGA and not entity:
        changed["processing_failed"] = True
    if means.fails is Fails.UPLOAD:
        changed["upload_failure"] = least(saga.upload_failure, _error(event, fact))
    if means.announces is not None:
        changed |= _announced(saga, means.announces, fact)
    return changed


def _announced(saga: Saga, where: Announcement, fact: Fact) -> dict[str, Any]:
    container = fact.content.get(where.container)
    numbers: Mapping[str, Any] = container if isinstance(container, dict) else {}
    count, total, failed = (_number(numbers.get(name)) for name in (where.count, where.total, where.failed))
    changed: dict[str, Any] = {}
    if failed is not None and failed > 0:
        words = f"{failed} could not be retrieved"
        changed["upload_failure"] = least(saga.upload_failure, Mark(fact.occurred_at, fact.id, words))
    if count is None and total is not None:
        count = total - (failed or 0)
    if count is not None:
        announced = Announced(fact.occurred_at, fact.id, max(count, 0))
        changed["announced"] = announced if saga.announced is None else max(saga.announced, announced)
    return changed


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_lane(frame: Frame, event: Event, entity: str, fact: Fact) -> bool:
    """Whether this holder is an entity that the fact proves to exist."""
    if entity == named(frame, fact):
        return True
    return event.entity is Entity.EACH and entity in listed(event, fact)


def _moves(frame: Frame, event: Event, entity: str, fact: Fact) -> bool:
    """Whether the event's meaning is about this holder, or only its existence is."""
    name = named(frame, fact)
    match event.entity:
        case Entity.TASK:
            return entity == frame.key
        case Entity.LANE:
            return entity == name
        case Entity.LANE_ELSE_TASK:
            return entity == (name or frame.key)
        case Entity.EACH:
            return entity in listed(event, fact)
        case Entity.EVENT:
            return entity == fact.id


def _wire_to_lane(frame: Frame, event: Event, means: Meaning, lane: Lane, fact: Fact) -> Lane:
    changed: dict[str, Any] = {}
    if means.step is not None and means.becomes is not None:
        changed["steps"] = _joined_step(lane, means, event, fact)
    if lane.entity != named(frame, fact):
        return lane._replace(**changed) if changed else lane
    if means.proves and means.proves not in lane.milestones:
        changed["milestones"] = lane.milestones | {means.proves}
    if means.processes:
        changed["processed"] = True
    if means.fails in (Fails.LANE, Fails.LANE_ELSE_SAGA):
        changed["failure"] = least(lane.failure, _error(event, fact))
    if means.confirms:
        words = f"{fact.type} arrived without an earlier failure: it was undone by somebody else"
        mark = Mark(fact.occurred_at, fact.id, words)
        changed["commands"] = _with(
            lane, means.confirms, lambda known: known._replace(confirmed=least(known.confirmed, mark))
        )
    return lane._replace(**changed) if changed else lane


def _joined_step(lane: Lane, means: Meaning, event: Event, fact: Fact) -> Mapping[tuple[str, str], StepFacts]:
    assert means.step is not None
    assert means.becomes is not None
    key = (means.step.type, means.step.service)
    error = _error(event, fact).text if means.fails else ""
    said = StepFacts(FACT_RANK[means.becomes], fact.occurred_at, fact.id, fact.type, error)
    known = lane.steps.get(key)
    if known is not None and known[:3] >= said[:3]:
        return lane.steps
    return {**lane.steps, key: said}


def _error(event: Event, fact: Fact) -> Mark:
    text = fact.content.get(event.error_in)
    words = text.strip()[:ERROR_LIMIT] if isinstance(text, str) else ""
    return Mark(fact.occurred_at, fact.id, words or fact.type)


def _earlier(one: datetime | None, other: datetime) -> datetime:
    return other if one is None or other < one else one


def _lanes_fail_saga(frame: Frame) -> bool:
    return frame.scope == SAGA_SCOPE


# --- facts of our own -----------------------------------------------------------------------------------------------


def _touched_by_our_own(fact: Fact) -> tuple[str, ...]:
    if fact.type in kinds.COMMAND_DECISIONS:
        return tuple(dict.fromkeys(entity for entity, _, _ in _commands(fact)))
    return (fact.entity,) if fact.entity else ()


def _commands(fact: Fact) -> list[tuple[str, str, int]]:
    return [(entity, command, int(number)) for entity, command, number in fact.content.get("commands", [])]


def _decision_to_saga(saga: Saga, fact: Fact) -> dict[str, Any]:
    if fact.entity:
        return {}
    words = _said(fact)
    if fact.type in (kinds.SAGA_CANCELLED, kinds.COMPENSATION_FORCED):
        return {"failure": least(saga.failure, Mark(fact.occurred_at, fact.id, words))}
    if fact.type == kinds.SAGA_TERMINATED:
        claimed = frozenset(fact.content.get("claimed", []))
        both = claimed if saga.claimed is None else saga.claimed & claimed
        return {"failure": least(saga.failure, Mark(fact.occurred_at, fact.id, words)), "claimed": both}
    if fact.type == kinds.SAGA_ADOPTED:
        started_at = fact.content.get("started_at")
        when = datetime.fromisoformat(started_at) if started_at else fact.occurred_at
        return {"started": least(saga.started, Mark(when, fact.id))}
    return {}


def _said(fact: Fact) -> str:
    verb = {
        kinds.SAGA_CANCELLED: "Cancelled",
        kinds.COMPENSATION_FORCED: "Compensation forced",
        kinds.SAGA_TERMINATED: "Terminated",
    }.get(fact.type, fact.type)
    return f"{verb}: {fact.content.get('reason', '')}"[:ERROR_LIMIT]


def _own_to_lane(lane: Lane, fact: Fact) -> Lane:
    if fact.type in (kinds.SAGA_CANCELLED, kinds.COMPENSATION_FORCED) and fact.entity == lane.entity:
        mark = Mark(fact.occurred_at, fact.id, _said(fact))
        return lane._replace(forced=least(lane.forced, mark))
    if fact.type in kinds.COMMAND_DECISIONS:
        for entity, command, number in _commands(fact):
            if entity == lane.entity:
                lane = lane._replace(commands=_with(lane, command, _decided(fact, number)))
        return lane
    if fact.type in kinds.COMMAND_NEWS and fact.entity == lane.entity:
        return lane._replace(commands=_with(lane, str(fact.content.get("name", "")), _news(fact)))
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


def _news(fact: Fact) -> Callable[[CommandFacts], CommandFacts]:
    number = int(fact.content.get("round", 1))

    def join(known: CommandFacts) -> CommandFacts:
        if fact.type == kinds.COMMAND_EXHAUSTED:
            return known._replace(exhausted_round=max(known.exhausted_round, number))
        return known._replace(published=least(known.published, Mark(fact.occurred_at, fact.id)))

    return join


def _with(lane: Lane, command: str, join: Callable[[CommandFacts], CommandFacts]) -> Mapping[str, CommandFacts]:
    return {**lane.commands, command: join(lane.commands.get(command, CommandFacts()))}
