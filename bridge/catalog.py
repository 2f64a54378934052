"""Which events exist: handed to the bridge by the project, from what the saga definitions declare.

The bridge knows no saga. It knows types, the topics they come on, and which fields of them must be what.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, get_args

from django.conf import settings
from django.utils.module_loading import import_string

FieldKind = Literal["id", "ids", "text", "integer", "object"]

REGION = "{region}"
REGION_PATTERN = r"[A-Za-z0-9_-]+"


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
    """

    name: str
    stream: str
    topics: tuple[str, ...]
    key_field: str
    entity_field: str | None = None
    fields: Mapping[str, FieldKind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.fields.values()) - set(get_args(FieldKind)))
        if unknown:
            raise ValueError(f"{self.name}: no such kind of field: {', '.join(unknown)}")


class Catalog:
    """All types of event, looked up by name or by the short name of a topic.

    Raises ValueError if two types have the same name, or the same topic.
    """

    def __init__(self, event_types: tuple[EventType, ...]) -> None:
        self.event_types = event_types
        self._by_name: dict[str, EventType] = {}
        self._by_topic: dict[str, EventType] = {}
        for event_type in event_types:
            self._add(event_type)
        self._regional = [
            (region_pattern(topic), event_type) for topic, event_type in self._by_topic.items() if REGION in topic
        ]

    def _add(self, event_type: EventType) -> None:
        if event_type.name in self._by_name:
            raise ValueError(f"two event types are called {event_type.name}")
        self._by_name[event_type.name] = event_type
        for topic in event_type.topics:
            if topic in self._by_topic:
                raise ValueError(f"{event_type.name} and {self._by_topic[topic].name} share the topic {topic}")
            self._by_topic[topic] = event_type

    @property
    def topics(self) -> tuple[str, ...]:
        """The short names of all topics, those with {region} as they are written."""
        return tuple(self._by_topic)

    def by_name(self, name: str) -> EventType | None:
        return self._by_name.get(name)

    def by_topic(self, topic: str) -> EventType | None:
        """The type that comes on this topic (short name, with a region in its place)."""
        found = self._by_topic.get(topic)
        if found is None:
            found = next((event_type for pattern, event_type in self._regional if pattern.fullmatch(topic)), None)
        return found


def region_pattern(topic: str) -> re.Pattern[str]:
    """What a regional topic's short name may look like, dots taken as dots."""
    return re.compile(re.escape(topic).replace(re.escape(REGION), REGION_PATTERN))


@cache
def get_catalog() -> Catalog:
    """The project's catalog (setting BRIDGE_CATALOG: the dotted path of a function that makes it), made once."""
    make: Callable[[], Catalog] = import_string(settings.BRIDGE_CATALOG)
    return make()
