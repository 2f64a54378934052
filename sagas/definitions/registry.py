"""Which saga types exist, in which versions.

To change a definition that sagas already run on: keep the old file as it is, add the new one with a higher version,
and list both. A saga stays on the version that it was born with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from sagas.definitions import image_processing
from sagas.definitions.merged import conflicts
from sagas.engine.definition import Definition, Event
from sagas.engine.problems import problems_of

DEFINITIONS: tuple[Definition, ...] = (image_processing.DEFINITION,)

_for_a_while: list[Definition] = []


class UnknownDefinition(LookupError):
    """This code has no such saga type or version: a newer release wrote the saga."""


def all_definitions() -> tuple[Definition, ...]:
    """Every version of every saga type."""
    return (*DEFINITIONS, *_for_a_while)


def current_definitions() -> Mapping[str, Definition]:
    """The newest version of each saga type, by name."""
    return _index().newest


def current(name: str) -> Definition:
    """The version in which new sagas of this type are born. Raises UnknownDefinition."""
    try:
        return current_definitions()[name]
    except KeyError:
        raise UnknownDefinition(f"no saga type is called {name}") from None


def get(name: str, version: int) -> Definition:
    """One version of a saga type. Raises UnknownDefinition."""
    try:
        return _index().versions[name, version]
    except KeyError:
        raise UnknownDefinition(f"no saga type {name} in version {version}") from None


def event(name: str, event_type: str) -> Event | None:
    """The event as the newest version of this saga type that declares it. Sagas of older versions are in flight."""
    return _index().events.get((name, event_type))


def starts(name: str, event_type: str) -> bool:
    """Whether such an event begins a saga. Sagas begin in the newest version, so only its word counts."""
    definition = current_definitions().get(name)
    known = definition.event_of.get(event_type) if definition else None
    return known is not None and known.starts


class _Index(NamedTuple):
    """What is asked for with each event, looked up once for each list of definitions."""

    definitions: tuple[Definition, ...]
    newest: Mapping[str, Definition]
    versions: Mapping[tuple[str, int], Definition]
    events: Mapping[tuple[str, str], Event]


_latest_index = _Index((), {}, {}, {})


def _index() -> _Index:
    """The index of the definitions that are listed now. Comparing the same objects costs next to nothing."""
    global _latest_index  # noqa: PLW0603 (tests list other definitions for a while)
    listed = all_definitions()
    if _latest_index.definitions != listed:
        rising = sorted(listed, key=lambda item: item.version)
        _latest_index = _Index(
            listed,
            newest={item.name: item for item in rising},
            versions={(item.name, item.version): item for item in rising},
            events={(item.name, event.type): event for item in rising for event in item.events},
        )
    return _latest_index


def problems() -> list[str]:
    """All that is wrong with the definitions, each by itself and together, in words. Never raises."""
    found: list[str] = []
    sound: list[Definition] = []
    listed: tuple[object, ...] = all_definitions()
    for number, item in enumerate(listed, start=1):
        if not isinstance(item, Definition):
            found.append(f"definition {number} of the registry is no Definition, but a value of {type(item).__name__}")
            continue
        wrong = problems_of(item)
        found += wrong
        if not wrong:
            sound.append(item)
    versions = [(item.name, item.version) for item in sound]
    found += [
        f"{name} version {version} is listed twice"
        for name, version in dict.fromkeys(versions)
        if versions.count((name, version)) > 1
    ]
    return [*found, *conflicts(sound)]


@contextmanager
def also(*definitions: Definition) -> Iterator[None]:
    """Lists more definitions for a while. For tests; not safe across threads."""
    _for_a_while.extend(definitions)
    try:
        yield
    finally:
        del _for_a_while[-len(definitions) :]
