"""The event types that exist. The project makes the catalog from the saga definitions and hands it to the bridge.

The bridge does not know sagas: it knows event types, the topics that carry them, and the kinds of their fields.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, product
from typing import Any, Literal, NamedTuple, get_args

from django.conf import settings
from django.utils.module_loading import import_string

FieldKind = Literal["id", "ids", "text", "integer", "object"]

REGION = "{region}"
# A region is any text that a user typed: with spaces, dots and accents, or empty. Topic names contain no slash, and
# Pulsar's client accepts none in a pattern either.
REGION_PATTERN = r".*"

# How many resolved topics are cached, whatever region names come.
_MAX_CACHED = 10_000


class CatalogError(ValueError):
    """The event types contradict each other. `problems`: one sentence for each contradiction."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class EventType:
    """One event type.

    name: the value of the message's `type`.
    stream: the saga type that it belongs to; opaque here.
    topics: short names; "{region}" in one stands for any region.
    key_field, entity_field: the fields that hold the saga's key and the entity.
    needs_key: whether a message without a key is unreadable, even if it names an entity: without an entity_field all
        need it.
    fields: the kinds of known fields, checked if present and not null; "result.total_images" is a field of an object.
        id: a string of 1-200 printable characters; ids: a list of ids; text: a string; object;
        integer: a 32-bit integer.
    deciding: those of the fields that decide what the event means, besides ids and lists of ids, which all do. A
        message is unreadable if one of these has the wrong type; any other is ignored, with a note.
    is_unclear: whether a body (first argument) that names this entity (second argument, or "") does not say what
        happened. Such an event is stored and shown to people. Without an entity_field it gets the key.
    collapse_after: how many events of one key and entity are stored before the others are only counted; 0: all are.
    always_typed: its messages always carry their type, so it is never the default type of a topic.
    aliases: other values of the message's `type` that mean this type, on its own topics only.
    declared_in: where people find the declaration, for error texts.
    """

    name: str
    stream: str
    topics: tuple[str, ...]
    key_field: str
    entity_field: str | None = None
    needs_key: bool = False
    fields: Mapping[str, FieldKind] = field(default_factory=dict)
    always_typed: bool = False
    aliases: tuple[str, ...] = ()
    declared_in: str = ""
    deciding: frozenset[str] = frozenset()
    is_unclear: Callable[[Mapping[str, Any], str], bool] | None = None
    collapse_after: int = 0

    def __str__(self) -> str:
        return f"{self.name} ({self.declared_in})" if self.declared_in else self.name


Readers = tuple[EventType, ...]  # one event type as each saga type declares it, the first listed saga type first


class OnTopic(NamedTuple):
    """The event types that one topic carries.

    default: the type of a message without one, if the topic has a default.
    by_name: event type by the values that a message's `type` may have on this topic, aliases included.
    """

    types: tuple[EventType, ...]
    default: Readers | None
    by_name: Mapping[str, Readers]

    @property
    def names(self) -> list[str]:
        """The names of the event types, each once."""
        return list(dict.fromkeys(event_type.name for event_type in self.types))


class Catalog:
    """All event types, found by name or by the short name of a topic.

    Several types may share a topic if their messages carry their type. Several saga types (`stream`) may declare the
    same event type, each with a key of its own. Raises CatalogError if a saga type declares an event type twice, if two
    saga types contradict each other about its fields, if a topic would have two default types, if an alias could mean
    two types, or if a field has an unknown kind.
    """

    def __init__(self, event_types: tuple[EventType, ...]) -> None:
        found = list(_problems(event_types))
        if found:
            raise CatalogError(found)
        self.event_types = event_types
        self._by_text = {alias: one.name for one in event_types for alias in one.aliases}
        self._by_text |= {one.name: one.name for one in event_types}
        self._patterns = [
            (region_pattern(topic), topic, event_type) for event_type in event_types for topic in event_type.topics
        ]
        self._on_topic: dict[str, OnTopic] = {}

    @property
    def topics(self) -> tuple[str, ...]:
        """Return the short names of all topics, each once, {region} not replaced."""
        return tuple(dict.fromkeys(topic for event_type in self.event_types for topic in event_type.topics))

    @property
    def probe_topic(self) -> str:
        """Return a topic without {region}, for testing the broker. Raises CatalogError if there is none."""
        found = next((topic for topic in self.topics if REGION not in topic), None)
        if found is None:
            raise CatalogError([f"no event type has a topic without {REGION}; one is needed to test the broker"])
        return found

    def by_name(self, name: str) -> Readers:
        """Return the event type with this name, as each saga type declares it; empty if none does."""
        return tuple(event_type for event_type in self.event_types if event_type.name == name)

    def name_on_any_topic(self, text: str) -> str | None:
        """Return the name of the event type with this name or alias, whatever its topics."""
        return self._by_text.get(text)

    def on_topic(self, topic: str) -> OnTopic:
        """Return the event types that this topic carries (short name, {region} replaced by a region)."""
        found = self._on_topic.get(topic)
        if found is None:
            found = self._resolve(topic)
            if len(self._on_topic) < _MAX_CACHED:
                self._on_topic[topic] = found
        return found

    def _resolve(self, topic: str) -> OnTopic:
        types = tuple(
            event_type
            for event_type in self.event_types
            if any(
                name == topic or pattern.fullmatch(topic) for pattern, name, of in self._patterns if of is event_type
            )
        )
        readers: dict[str, Readers] = {}
        for event_type in types:
            readers[event_type.name] = (*readers.get(event_type.name, ()), event_type)
        default = next((readers[event_type.name] for event_type in types if not event_type.always_typed), None)
        # Services also write the topic's own name as the type: treat that as no type.
        by_name = {} if default is None else {topic: default}
        by_name |= {alias: readers[event_type.name] for event_type in types for alias in event_type.aliases}
        return OnTopic(types, default, by_name | readers)


def _problems(event_types: Sequence[EventType]) -> Iterator[str]:
    names = Counter((event_type.stream, event_type.name) for event_type in event_types)
    yield from (f"{stream} declares {count} event types {name}" for (stream, name), count in names.items() if count > 1)
    for event_type in event_types:
        for name, kind in event_type.fields.items():
            if kind not in get_args(FieldKind):
                yield f"{event_type}: the field {name} has the unknown kind {kind!r}"
    yield from _alias_problems(event_types, {event_type.name for event_type in event_types})
    for one, other in combinations(event_types, 2):
        if one.name == other.name and one.stream != other.stream:
            yield from _field_problems(one, other)
    for one, other in combinations((event_type for event_type in event_types if not event_type.always_typed), 2):
        if one.name == other.name:
            continue
        for topic, twin in _shared(one, other):
            topics = topic if topic == twin else f"{topic} and {twin} can be the same topic"
            yield (
                f"{topics}: it carries {one} and {other}, and either may lack its type. Mark all but one with "
                "always_typed=True; the remaining one becomes the default for messages without a type"
            )


def _field_problems(one: EventType, other: EventType) -> Iterator[str]:
    """Yield a sentence for each field whose kind differs between two saga types: no body could suit both."""
    kinds, twins = _kinds(one), _kinds(other)
    for name in sorted(kinds.keys() & twins.keys()):
        if kinds[name] != twins[name]:
            yield (
                f"{other}: its field {name} is {twins[name]!r}, but {kinds[name]!r} in {one}: both read the same "
                "message, so declare the same kind in both"
            )


def _kinds(event_type: EventType) -> dict[str, str]:
    """Return the kinds of the known fields; a key and an entity are ids."""
    ids = {name: "id" for name in (event_type.key_field, event_type.entity_field) if name}
    return {**event_type.fields, **ids}


def _alias_problems(event_types: Sequence[EventType], names: Collection[str]) -> Iterator[str]:
    for event_type in event_types:
        for alias in event_type.aliases:
            if alias in names:
                yield f"{event_type}: its alias {alias} is the name of an event type"
    for one, other in combinations(event_types, 2):
        if one.name != other.name and any(_shared(one, other)):
            for alias in sorted({*one.aliases} & {*other.aliases}):
                yield f"the alias {alias} means both {one} and {other}, which share a topic"


def _shared(one: EventType, other: EventType) -> Iterator[tuple[str, str]]:
    """Yield the topics that both types have, as each of them writes them."""
    return ((a, b) for a in one.topics for b in other.topics if overlap(a, b))


def overlap(one: str, other: str) -> bool:
    """Return whether two short names, with {region} anywhere in them, can name the same topic."""
    if REGION not in one and REGION not in other:
        return one == other
    left, right = _letters(one), _letters(other)
    todo, seen = [(0, 0)], {(0, 0)}
    while todo:
        i, j = todo.pop()
        if i == len(left) and j == len(right):
            return True
        steps = set(_steps(left, right, i, j)) - seen
        seen |= steps
        todo += steps
    return False


def _steps(left: Sequence[str], right: Sequence[str], i: int, j: int) -> Iterator[tuple[int, int]]:
    """Yield the positions that may follow: a region ends without a letter, or both sides take the same letter."""
    if i < len(left) and left[i] == REGION:
        yield i + 1, j
    if j < len(right) and right[j] == REGION:
        yield i, j + 1
    if i < len(left) and j < len(right) and _same_letter(left[i], right[j]):
        yield from product(_after(left, i), _after(right, j))


def _after(letters: Sequence[str], at: int) -> tuple[int, ...]:
    """Return the positions that may follow once this letter is taken: a region may take another one."""
    return (at,) if letters[at] == REGION else (at + 1,)


def _letters(topic: str) -> list[str]:
    return [part for part in re.split(rf"({re.escape(REGION)})|(?=.)", topic) if part]


def _same_letter(one: str, other: str) -> bool:
    letters = {one, other} - {REGION}
    if REGION in (one, other):
        return all(re.fullmatch(REGION_PATTERN, letter) for letter in letters)
    return len(letters) == 1


def region_pattern(topic: str) -> re.Pattern[str]:
    """Return the pattern of a regional topic's short names, with dots escaped."""
    return re.compile(re.escape(topic).replace(re.escape(REGION), REGION_PATTERN))


@cache
def get_catalog() -> Catalog:
    """Return the project's catalog, made once (setting BRIDGE_CATALOG: dotted path of the function that makes it)."""
    make: Callable[[], Catalog] = import_string(settings.BRIDGE_CATALOG)
    return make()
