"""Validate a definition: find everything that the bridge, the engine or the database would refuse later."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace

from sagas.engine import shape
from sagas.engine.definition import (
    FACT_RANK,
    Compensation,
    Confirmation,
    Definition,
    Entity,
    Event,
    Fails,
    Meaning,
    Retry,
    meanings,
)

# The kinds of known fields; the decoder of the bridge has one check for each.
FIELD_KINDS = frozenset({"id", "ids", "text", "integer", "object"})
REGION = "{region}"
# Topic names that Pulsar and the map of topic names accept unchanged. Pulsar names the partitions of a topic
# "TOPIC-partition-N".
_TOPIC = re.compile(r"[A-Za-z0-9_.=-]+").fullmatch
_PARTITION = re.compile(r"-partition-\d+$").search
# Fields that every message has.
_ENVELOPE = frozenset({"id", "type", "timestamp"})
_MAX_INTEGER = 2**31 - 1
_MAX_SECONDS = 366 * 24 * 3600
_MAX_NAME = 200
_NAME_RULE = f"1 to {_MAX_NAME} printable characters, with no space at either end"


def problems_of(definition: Definition) -> list[str]:
    """Return one sentence for each mistake of this definition; empty if it has none. Never raises."""
    where = f"{definition.name} version {definition.version}"
    wrong_types = list(_type_problems(definition))
    # The rules compare and look up values, so they need values of the right types.
    return [f"{where}{problem}" for problem in wrong_types or _rule_problems(definition)]


def _type_problems(definition: Definition) -> Iterator[str]:
    for problem in shape.problems(_without_parts(definition)):
        yield f": {problem}"
    for noun, part in (("event", "events"), ("command", "compensations")):
        items = getattr(definition, part)
        if type(items) is not tuple:
            yield f": {part} must be a tuple, but is a value of type {type(items).__name__}"
            continue
        for number, item in enumerate(items, start=1):
            kind = Event if part == "events" else Compensation
            if not isinstance(item, kind):
                yield f", {noun} {number}: must be one of {kind.__name__}, but is a value of type {type(item).__name__}"
                continue
            label = _label(item, number)
            yield from (f", {label}: {problem}" for problem in shape.problems(item))


def _label(item: Event | Compensation, number: int) -> str:
    """Return the name by which people find this item, or its position in the definition if it has no valid name."""
    noun, name = ("event", item.type) if isinstance(item, Event) else ("command", item.command)
    return name if isinstance(name, str) and _is_name(name) else f"{noun} {number}"


def _without_parts(definition: Definition) -> Definition:
    """Return the definition without its events and commands, which are checked one by one."""
    return replace(definition, events=(), compensations=())


def _rule_problems(definition: Definition) -> Iterator[str]:
    for problem in _whole_problems(definition):
        yield f": {problem}"
    for number, event in enumerate(definition.events, start=1):
        yield from (f", {_label(event, number)}: {problem}" for problem in _event_problems(definition, event))
    for number, item in enumerate(definition.compensations, start=1):
        yield from (f", {_label(item, number)}: {problem}" for problem in _compensation_problems(definition, item))


def _whole_problems(definition: Definition) -> Iterator[str]:
    if not definition.name.isidentifier() or not 1 <= definition.version <= _MAX_INTEGER:
        yield f"the name must be an identifier, and the version a number from 1 to {_MAX_INTEGER}"
    if len(definition.name) > _MAX_NAME:
        yield f"the name must not be longer than {_MAX_NAME} characters"
    yield from _key_problems(definition)
    yield from _word_problems(definition)
    yield from _duplicate_problems(definition)
    yield from _course_problems(definition)
    yield from _restart_problems(definition)
    for step in definition.steps:
        if not (_is_name(step.type) and _is_name(step.service)):
            yield f"the step {step.type!r} of {step.service!r}: type and service must be {_NAME_RULE}"


def _word_problems(definition: Definition) -> Iterator[str]:
    """Check the words for people and for clients of the API; those that are left out follow from the other names."""
    nouns = [(f"the noun of {item.command}", item.noun) for item in definition.compensations]
    for field, noun in (
        ("key_noun", definition.key_noun),
        ("entity_noun", definition.entity_noun),
        ("intake_noun", definition.intake_noun),
        *nouns,
    ):
        if noun and not all(
            _is_name(word) and word.replace(" ", "").replace("-", "").isalpha() for word in (noun.one, noun.many)
        ):
            yield f"{field} must be two English nouns in letters, one thing and several, such as (image, images)"
    if definition.public_name and not (definition.public_name.isidentifier() and _is_name(definition.public_name)):
        yield f"the public_name must be an identifier, not longer than {_MAX_NAME} characters"


def _duplicate_problems(definition: Definition) -> Iterator[str]:
    if len(definition.event_of) != len(definition.events):
        yield "an event type is declared twice"
    if len(definition.compensation_of) != len(definition.compensations):
        yield "a command is declared twice"
    if len(definition.undo_of) != len(definition.compensations):
        yield "two commands undo the same step"


def _course_problems(definition: Definition) -> Iterator[str]:
    if not any(event.starts for event in definition.events):
        yield "no event starts the saga"
    if definition.processed_needs and definition.processed_needs not in definition.milestones:
        yield f"processed_needs is {definition.processed_needs}, a milestone that no event proves"
    if definition.counts_lanes and not any(m.ends_intake for event in definition.events for m in meanings(event)):
        yield "an event announces lanes, but no event ends the intake, so the saga could never complete"


def _restart_problems(definition: Definition) -> Iterator[str]:
    opening = [event for event in definition.events if event.opening]
    if not definition.restarts:
        if opening:
            yield f"the event {opening[0].type} is marked as opening, but the saga type does not restart"
        return
    if not definition.entity_field:
        # The commands of its single lane keep their ids: what was undone in one run could not be undone in the next.
        yield "restarts, but has no entities (entity_field is empty): each run needs entities of its own"
    if not opening:
        yield "restarts, but no event is marked as opening, so the run of a lane could not be told"


def _key_problems(definition: Definition) -> Iterator[str]:
    if not definition.key_field:
        yield "key_field is missing"
    for name in filter(None, (definition.key_field, definition.entity_field)):
        if name in _ENVELOPE or "." in name:
            yield (
                f"the field {name} cannot be the key or the entity: use a top-level field other than id, type and "
                "timestamp"
            )
    if definition.key_field and definition.key_field == definition.entity_field:
        yield f"the field {definition.key_field} is both the key and the entity"


def _is_name(text: str) -> bool:
    return 1 <= len(text) <= _MAX_NAME and text.isprintable() and text == text.strip()


def _event_problems(definition: Definition, event: Event) -> Iterator[str]:
    if not _is_name(event.type):
        yield f"the type must be {_NAME_RULE}"
    yield from _topics_problems(event)
    yield from _alias_problems(event)
    if event.entity is Entity.EACH and not event.listed_in:
        yield "changes a step of each listed entity, but listed_in is missing"
    if event.entity is Entity.EACH and not definition.entity_field:
        yield "lists entities, but the saga has no entities (entity_field is empty)"
    if event.opening and event.entity not in (Entity.LANE, Entity.EACH):
        yield "is marked as opening, but neither names one lane nor lists lanes"
    if event.own_key and not definition.entity_field:
        yield "has own_key, but the saga cannot be found by an entity (entity_field is empty)"
    yield from _field_problems(definition, event)
    yield from _instead_problems(event)
    yield from _success_field_problems(event)
    if not 0 <= event.collapse_after <= _MAX_INTEGER:
        yield f"collapse_after must be from 0 to {_MAX_INTEGER}"
    for meaning in meanings(event):
        yield from _meaning_problems(definition, event, meaning)


def _topics_problems(event: Event) -> Iterator[str]:
    if not event.topics:
        yield "has no topic"
    for topic in event.topics:
        yield from topic_problems(topic)
    if len(set(event.topics)) != len(event.topics):
        yield "a topic is listed twice"


def _alias_problems(event: Event) -> Iterator[str]:
    for alias in event.aliases:
        if not _is_name(alias):
            yield f"an alias must be {_NAME_RULE}"
    if len(set(event.aliases)) != len(event.aliases):
        yield "an alias is listed twice"


def _instead_problems(event: Event) -> Iterator[str]:
    for other in event.instead:
        if not other.field:
            yield "an alternative meaning (instead) has no field"
        if not other.begins or unicodedata.normalize("NFC", other.begins).lstrip() != other.begins:
            yield (
                f"no text can begin with {other.begins!r}: it must not be empty or begin with a space, and must be "
                "composed (Unicode NFC)"
            )


def _success_field_problems(event: Event) -> Iterator[str]:
    stated = event.success_field
    if stated is None:
        return
    if event.instead:
        yield "has both instead and success_field: only one of them can give it another meaning"
    success, failure = ({value.strip().casefold() for value in values} for values in (stated.success, stated.failure))
    if not success or "" in success | failure:
        yield "its success_field must list at least one value of success, and no empty value"
    for value in sorted(success & failure):
        yield f"its success_field lists {value!r} as a success and as a failure"


def topic_problems(topic: str) -> Iterator[str]:
    """Yield one sentence for each mistake in the short name of an event's topic."""
    if topic.count(REGION) > 1:
        yield f"the topic {topic!r} has more than one {REGION}"
    if not _TOPIC(topic.replace(REGION, "x")) or _PARTITION(topic):
        yield (
            f"the topic {topic!r} may contain only letters, digits, - _ . = and one {REGION}, and must not end like "
            "the name of a partition"
        )


def _field_problems(definition: Definition, event: Event) -> Iterator[str]:
    for name, kind in event.fields.items():
        if kind not in FIELD_KINDS:
            yield f"the field {name} has the unknown kind {kind!r}: use {', '.join(sorted(FIELD_KINDS))}"
        elif name in (definition.key_field, definition.entity_field) and kind != "id":
            yield f"the field {name} is the key or the entity, so its kind must be 'id'"
        if not all(name.split(".")):
            yield f"the field name {name!r} has an empty part"
    read = [(event.listed_in, "ids"), *((other.field, "text") for other in event.instead)]
    read += [(event.success_field.field, "text")] if event.success_field else []
    announced = [meaning.announces for meaning in meanings(event) if meaning.announces]
    read += [(where.container, "object") for where in announced]
    for name, _ in read:
        if "." in name:
            yield f"the field {name} cannot be read: only top-level fields can"
    read += [
        (f"{where.container}.{name}", "integer") for where in announced if where.container for name in where.numbers
    ]
    for name, kind in dict.fromkeys(read):
        if name and event.fields.get(name) != kind:
            yield f"the field {name} is read, so `fields` must declare it as {kind!r}"


def _meaning_problems(definition: Definition, event: Event, meaning: Meaning) -> Iterator[str]:
    if meaning.becomes and not meaning.step:
        yield "has `becomes`, but no step"
    if meaning.step and not meaning.becomes:
        yield f"changes the step {meaning.step.type}, but `becomes` is missing"
    if meaning.becomes and meaning.becomes not in FACT_RANK:
        yield f"an event cannot set a step to {meaning.becomes}"
    for command in (meaning.confirms, meaning.refuses):
        if command and command not in definition.compensation_of:
            yield f"confirms or refuses {command}, a command that is not declared"
    if meaning.step and meaning.step.outcome and meaning.step.outcome not in {s.type for s in definition.steps}:
        yield f"its step has the outcome {meaning.step.outcome}, a step type that is not declared"
    names_lane = event.entity in (Entity.LANE, Entity.LANE_ELSE_SAGA) or not definition.entity_field
    if meaning.about_one_lane and not names_lane:
        yield "fails, processes, proves, confirms or refuses something of a lane, but is not about one lane"
    if meaning.fails is Fails.UPLOAD and event.entity is not Entity.EVENT:
        yield "fails an upload, so its entity must be Entity.EVENT"
    if meaning.announces and not meaning.announces.container:
        yield "announces lanes, but does not name the object field that contains the number"


def _compensation_problems(definition: Definition, item: Compensation) -> Iterator[str]:
    if not _is_name(item.command):
        yield f"the command must be {_NAME_RULE}"
    if REGION in item.topic or any(topic_problems(item.topic)):
        yield f"its topic {item.topic!r} may contain only letters, digits and - _ . ="
    if item.service not in {step.service for step in definition.steps}:
        yield f"is sent to {item.service!r}, but no step has this service"
    yield from _order_problems(definition, item)
    if item.confirmation is Confirmation.EVENT and item.command not in definition.confirmed_by_events:
        yield "is confirmed by an event, but no event type confirms it"
    for source in item.data.values():
        if source not in {"entity", "key"} and not source.startswith("="):
            yield f"its data contains {source!r}: use entity, key, or a fixed text that starts with ="
    for name in item.uuids:
        if item.data.get(name) not in {"entity", "key"}:
            yield f"{name} must be a UUID, but its data sets it to neither entity nor key"
    yield from _retry_problems(item.retry)


def _order_problems(definition: Definition, item: Compensation) -> Iterator[str]:
    if item.required_when and item.required_when not in definition.milestones:
        yield f"required_when is {item.required_when}, a milestone that no event proves"
    for earlier in item.after:
        if earlier == item.command or earlier not in definition.compensation_of:
            yield f"has {earlier} in `after`, which is not another command of this saga type"
    if _comes_after_itself(definition, item.command):
        yield "comes after itself (a cycle in `after`), so it could never be sent"


def _retry_problems(retry: Retry) -> Iterator[str]:
    if retry.maximum_attempts is not None and not 1 <= retry.maximum_attempts <= _MAX_INTEGER:
        yield f"maximum_attempts must be from 1 to {_MAX_INTEGER}"
    if retry.backoff_coefficient is not None and retry.backoff_coefficient < 1:
        yield "backoff_coefficient must be at least 1"
    intervals = (retry.initial_interval, retry.maximum_interval)
    for seconds in (*intervals, retry.confirmation_timeout):
        if seconds is not None and not 0 < seconds <= _MAX_SECONDS:
            yield "intervals and timeouts must be greater than 0 seconds and at most a year"
    if None not in intervals and retry.maximum_interval < retry.initial_interval:  # type: ignore[operator]
        yield "maximum_interval must not be less than initial_interval"
    if not all(retry.non_retryable_errors):
        yield "a non-retryable error must not be empty: every error begins with the empty text"


def _comes_after_itself(definition: Definition, command: str) -> bool:
    seen: set[str] = set()
    todo = [command]
    while todo:
        for earlier in (
            definition.compensation_of[name].after for name in [todo.pop()] if name in definition.compensation_of
        ):
            if command in earlier:
                return True
            todo.extend(name for name in earlier if name not in seen)
            seen.update(earlier)
    return False
