"""Merge all versions of all saga types into the events that the bridge accepts.

Sagas of every listed version may be in flight. An event is accepted on the topics of every version that declares it,
and the known fields of all of them are checked. Its key, its entity and the kind of each field must be the same in all
versions of one saga type, because a message is decoded once, before it is known which saga it belongs to. Several saga
types may declare the same event: each finds its own saga in it, by a key of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from sagas.engine.definition import Definition, Event


@dataclass(frozen=True, slots=True, kw_only=True)
class WireEvent:
    """One event type of one saga type, over all versions that declare it.

    `versions`: the newest first. `always_typed`: true only if it is in all of them. `aliases` and `deciding_fields`:
    those of all of them. `newest`: as the newest version declares it, which says when it is unclear and collapses, and
    whether it needs its key.
    """

    type: str
    saga_type: str
    versions: tuple[int, ...]
    topics: tuple[str, ...]
    key_field: str
    entity_field: str
    fields: Mapping[str, str]
    always_typed: bool
    aliases: tuple[str, ...]
    deciding_fields: frozenset[str]
    newest: Event

    @property
    def declared_in(self) -> str:
        """The saga type and versions that declare it, as text."""
        return f"{self.saga_type} version {' and '.join(map(str, sorted(self.versions)))}"


Declared = Sequence[tuple[Definition, Event]]  # of one event type, the newest version first


def wire_events(definitions: Iterable[Definition]) -> tuple[WireEvent, ...]:
    """Return each event type once for each saga type that declares it, in the order in which saga types are listed.

    Where versions conflict (`conflicts`), the newest one applies.
    """
    known = tuple(definitions)
    place = {name: number for number, name in enumerate(dict.fromkeys(item.name for item in known))}
    found = _declarations(known)
    return tuple(_merged(found[name]) for name in sorted(found, key=lambda name: place[name[0]]))


def conflicts(definitions: Iterable[Definition]) -> Iterator[str]:
    """Yield one sentence for each contradiction between versions of one saga type, and for each name of two types.

    What two saga types may not declare differently of one event type, `bridge.catalog` refuses.
    """
    known = tuple(definitions)
    yield from _name_conflicts(known)
    for declared in _declarations(known).values():
        for newer, older in combinations(declared, 2):
            yield from _conflicts(newer, older)


def _name_conflicts(definitions: Sequence[Definition]) -> Iterator[str]:
    """Yield one sentence for each name of a saga type, as stored or in the API, that means another type too."""
    types: dict[str, str] = {}
    for definition in definitions:
        for name in dict.fromkeys((definition.name, definition.api_name)):
            other = types.setdefault(name, definition.name)
            if other != definition.name:
                yield f"{definition.name} version {definition.version}: {name} is a name of the saga type {other} too"


def _declarations(definitions: Iterable[Definition]) -> dict[tuple[str, str], list[tuple[Definition, Event]]]:
    found: dict[tuple[str, str], list[tuple[Definition, Event]]] = defaultdict(list)
    # A version that continues another one is as old as that.
    for definition in sorted(definitions, key=lambda item: (item.continues > 0, -item.version)):
        for event in definition.events:
            found[definition.name, event.type].append((definition, event))
    return found


def _merged(declared: Declared) -> WireEvent:
    definition, event = declared[0]
    fields = {name: kind for _, older in reversed(declared) for name, kind in older.fields.items()}
    return WireEvent(
        type=event.type,
        saga_type=definition.name,
        versions=tuple(item.version for item, _ in declared),
        topics=tuple(dict.fromkeys(topic for _, one in declared for topic in one.topics)),
        key_field=definition.key_field,
        entity_field=definition.entity_field,
        fields=fields,
        always_typed=all(one.always_typed for _, one in declared),
        aliases=tuple(dict.fromkeys(alias for _, one in declared for alias in one.aliases)),
        deciding_fields=frozenset().union(*(one.deciding_fields for _, one in declared)),
        newest=event,
    )


def _where(declared: tuple[Definition, Event]) -> str:
    definition, event = declared
    return f"{definition.name} version {definition.version}, {event.type}"


def _conflicts(newer: tuple[Definition, Event], older: tuple[Definition, Event]) -> Iterator[str]:
    (new, event), (old, before) = newer, older
    for noun, now, then in (
        ("key field", new.key_field, old.key_field),
        ("entity field", new.entity_field, old.entity_field),
    ):
        if now != then:
            yield (
                f"{_where(newer)}: its {noun} is {now or 'none'}, but {then or 'none'} in version {old.version}: "
                "sagas of both versions may be waiting for it, so give the changed event a new type"
            )
    for name in sorted(event.fields.keys() & before.fields.keys()):
        if event.fields[name] != before.fields[name]:
            yield (
                f"{_where(newer)}: its field {name} is {event.fields[name]!r}, but {before.fields[name]!r} in version "
                f"{old.version}: sagas of both versions may be waiting for it, so give the changed event a new type"
            )
