"""What one package is told about another, so that neither has to know it."""

from collections.abc import Mapping
from typing import cast

from bridge.catalog import Catalog, EventType, FieldKind
from sagas.definitions import registry


def bridge_catalog() -> Catalog:
    """Give the bridge the event types, topics and keys that the newest definitions declare."""
    return Catalog(
        event_types=tuple(
            EventType(
                name=event.type,
                stream=definition.name,
                topics=event.topics,
                key_field=definition.key_field,
                entity_field=definition.entity_field or None,
                fields=cast("Mapping[str, FieldKind]", event.fields),  # EventType checks it
            )
            for definition in registry.current_definitions().values()
            for event in definition.events
        )
    )
