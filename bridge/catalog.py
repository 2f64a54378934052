"""Which events exist: handed to the bridge by the project, from what the saga definitions declare.

The bridge knows no saga. It knows types, the topics they come on, and which fields of them must be what.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, product
from typing import Literal, NamedTuple, get_args

from django.conf import settings
from django.utils.module_loading import import_string

FieldKind = Literal["id", "ids", "text", "integer", "object"]

REGION = "{region}"
REGION_PATTERN = r"[A-Za-z0-9_-]+"


# How many topics of how many regions are remembered; each is resolved once.
_MAX_REMEMBERED = 10_000


class CatalogError(ValueError):
    """The event types cannot work together. `problems`: one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event.

    name: what the message's `type` says.
    stream: which kind of saga it speaks of; opaque here.
    topics: short names; "{region}" in one stands for any region.
    key_field, entity_field: the fields that name the saga's key and the entity.
    fields: what known fields must be, if they are there and not null; "result.total_images" looks into an object.
        id: a text of 1-200 printable characters; ids: a list of such; text; object;
        integer: a whole number that fits four bytes.
    always_typed: its messages always carry their type, so its topics imply nothing about a message without one.
    aliases: other texts that the message's `type` may hold on these topics, and nowhere else.
    declared_in: where people find the declaration, for sentences about it.
    """

    name: str
    stream: str
    topics: tuple[str, ...]
    key_field: str
    entity_field: str | None = None
    fields: Mapping[str, FieldKind] = field(default_factory=dict)
    always_typed: bool = False
    aliases: tuple[str, ...] = ()
    declared_in: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.declared_in})" if self.declared_in else self.name


class OnTopic(NamedTuple):
    """The types that come on one topic.

    default: what a message without a type is, if its topic tells.
    said_as: the texts that a message's `type` may hold on this topic, and the type that each of them means.
    """

    types: tuple[EventType, ...]
    default: EventType | None
    said_as: Mapping[str, EventType]


class Catalog:
    """All types of event, looked up by name or by the short name of a topic.

    Several types may share a topic: the message says which it is. Raises CatalogError if two types have the same name,
    if messages of two types on one topic may lack their type, if an alias could mean two types, or if a field has an
    unknown kind.
    """

    def __init__(self, event_types: tuple[EventType, ...]) -> None:
        found = list(_problems(event_types))
        if found:
            raise CatalogError(found)
        self.event_types = event_types
        self._by_name = {event_type.name: event_type for event_type in event_types}
        self._by_text = {alias: one for one in event_types for alias in one.aliases} | self._by_name
        self._patterns = [
            (region_pattern(topic), topic, event_type) for event_type in event_types for topic in event_type.topics
        ]
        self._on_topic: dict[str, OnTopic] = {}

    @property
    def topics(self) -> tuple[str, ...]:
        """The short names of all topics, each once, those with {region} as they are written."""
        return tuple(dict.fromkeys(topic for event_type in self.event_types for topic in event_type.topics))

    @property
    def probe_topic(self) -> str:
        """A topic without {region}, which is there, to look for the broker by. Raises CatalogError if there is none."""
        found = next((topic for topic in self.topics if REGION not in topic), None)
        if found is None:
            raise CatalogError([f"no event comes on a topic without {REGION}, by which the broker could be looked for"])
        return found

    def by_name(self, name: str) -> EventType | None:
        return self._by_name.get(name)

    def meant_somewhere(self, text: str) -> EventType | None:
        """The type that this text means on some topic, as its name or an alias."""
        return self._by_text.get(text)

    def on_topic(self, topic: str) -> OnTopic:
        """The types that come on this topic (short name, with a region in its place)."""
        found = self._on_topic.get(topic)
        if found is None:
            found = self._resolve(topic)
            if len(self._on_topic) < _MAX_REMEMBERED:
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
        default = next((event_type for event_type in types if not event_type.always_typed), None)
        # Services also write the topic's own name as the type: that says no more than no type at all.
        said_as = {} if default is None else {topic: default}
        said_as |= {alias: event_type for event_type in types for alias in event_type.aliases}
        said_as |= {event_type.name: event_type for event_type in types}
        return OnTopic(types, default, said_as)


def _problems(event_types: Sequence[EventType]) -> Iterator[str]:
    names = Counter(event_type.name for event_type in event_types)
    yield from (f"{count} event types are called {name}" for name, count in names.items() if count > 1)
    for event_type in event_types:
        for name, kind in event_type.fields.items():
            if kind not in get_args(FieldKind):
                yield f"{event_type}: the field {name} is {kind!r}, which is no kind of field"
    yield from _alias_problems(event_types, names)
    for one, other in combinations((event_type for event_type in event_types if not event_type.always_typed), 2):
        for topic, twin in _shared(one, other):
            words = topic if topic == twin else f"{topic} and {twin} can be the same topic"
            yield (
                f"{words}: messages of {one} and of {other} come on it, and either may lack its type. Mark all but one "
                "with always_typed=True; the one left is what a message without a type is"
            )


def _alias_problems(event_types: Sequence[EventType], names: Collection[str]) -> Iterator[str]:
    for event_type in event_types:
        for alias in event_type.aliases:
            if alias in names:
                yield f"{event_type}: its alias {alias} is the name of an event type"
    for one, other in combinations(event_types, 2):
        if any(_shared(one, other)):
            for alias in sorted({*one.aliases} & {*other.aliases}):
                yield f"the alias {alias} means both {one} and {other}, which share a topic"


def _shared(one: EventType, other: EventType) -> Iterator[tuple[str, str]]:
    """The topics on which both may come, as each of them writes them."""
    return ((a, b) for a in one.topics for b in other.topics if overlap(a, b))


def overlap(one: str, other: str) -> bool:
    """Whether two short names, regions in any place, can name the same topic."""
    if REGION not in one and REGION not in other:
        return one == other
    left, right = _letters(one), _letters(other)
    todo, seen = [(0, 0)], {(0, 0)}
    while todo:
        i, j = todo.pop()
        if i == len(left) and j == len(right):
            return True
        if i == len(left) or j == len(right):
            continue
        if not _same_letter(left[i], right[j]):
            continue
        steps = set(product(_next(left, i), _next(right, j))) - seen
        seen |= steps
        todo += steps
    return False


def _next(letters: Sequence[str], at: int) -> tuple[int, ...]:
    """Where it may go on after this letter. A region has one letter or more: it goes on, or ends."""
    return (at, at + 1) if letters[at] == REGION else (at + 1,)


def _letters(topic: str) -> list[str]:
    return [part for part in re.split(rf"({re.escape(REGION)})|(?=.)", topic) if part]


def _same_letter(one: str, other: str) -> bool:
    letters = {one, other} - {REGION}
    if REGION in (one, other):
        return all(re.fullmatch(REGION_PATTERN, letter) for letter in letters)
    return len(letters) == 1


def region_pattern(topic: str) -> re.Pattern[str]:
    """What a regional topic's short name may look like, dots taken as dots."""
    return re.compile(re.escape(topic).replace(re.escape(REGION), REGION_PATTERN))


@cache
def get_catalog() -> Catalog:
    """The project's catalog (setting BRIDGE_CATALOG: the dotted path of a function that makes it), made once."""
    make: Callable[[], Catalog] = import_string(settings.BRIDGE_CATALOG)
    return make()
