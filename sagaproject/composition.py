"""The values that connect the packages, so that the packages need not import each other."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import cast

from bridge.catalog import Catalog, EventType, FieldKind
from sagas.definitions import registry
from sagas.definitions.merged import wire_events
from sagas.engine.definition import Definition, meanings


def bridge_catalog() -> Catalog:
    """Return the event types, topics and keys that all listed versions of all definitions declare, for the bridge.

    Open sagas stay on the version with which they started, so events that only an older version knows still come in.
    """
    return Catalog(
        event_types=tuple(
            EventType(
                name=event.type,
                stream=event.saga_type,
                topics=event.topics,
                key_field=event.key_field,
                entity_field=event.entity_field or None,
                needs_key=event.newest.needs_key,
                fields=cast("Mapping[str, FieldKind]", event.fields),  # Catalog checks it
                always_typed=event.always_typed,
                aliases=event.aliases,
                declared_in=event.declared_in,
                deciding=event.deciding_fields,
                is_unclear=event.newest.is_unclear if event.newest.success_field else None,
                collapse_after=event.newest.collapse_after,
            )
            for event in wire_events(registry.all_definitions())
        )
    )


def answering_topics() -> Mapping[str, tuple[str, ...]]:
    """Return the topics (short names) on which each service confirms and refuses commands, for the compensations."""
    found: dict[str, set[str]] = defaultdict(set)
    for definition in registry.all_definitions():
        for command, topic in _answers(definition):
            found[definition.compensation_of[command].service].add(topic)
    return {service: tuple(sorted(topics)) for service, topics in found.items()}


def refusing_types() -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Return the event types that refuse each command, by (saga type, command), for the compensations."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for definition in registry.all_definitions():
        for event in definition.events:
            for means in meanings(event):
                if means.refuses:
                    found[definition.name, means.refuses].add(event.type)
    return {command: tuple(sorted(types)) for command, types in found.items()}


def _answers(definition: Definition) -> Iterator[tuple[str, str]]:
    """Yield (command, topic) for each event that confirms or refuses a command."""
    for event in definition.events:
        for means in meanings(event):
            for command in {means.confirms, means.refuses} - {""}:
                yield from ((command, topic) for topic in event.topics)
