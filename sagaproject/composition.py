"""What one package is told about another, so that neither has to know it."""

from collections.abc import Mapping
from typing import cast

from bridge.catalog import Catalog, EventType, FieldKind
from sagas.definitions import registry
from sagas.definitions.merged import wire_events


def bridge_catalog() -> Catalog:
    """Give the bridge the event types, topics and keys that all listed versions of all definitions declare.

    Sagas in flight stay on the version they were born with, so what only an older version knows still comes in.
    """
    return Catalog(
        event_types=tuple(
            EventType(
                name=event.type,
                stream=event.saga_type,
                topics=event.topics,
                key_field=event.key_field,
                entity_field=event.entity_field or None,
                fields=cast("Mapping[str, FieldKind]", event.fields),  # Catalog checks it
                always_typed=event.always_typed,
                aliases=event.aliases,
                declared_in=event.declared_in,
            )
            for event in wire_events(registry.all_definitions())
        )
    )
