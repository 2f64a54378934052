"""Which saga types exist, in which versions.

To change a definition that sagas already run on: keep the old file as it is, add the new one with a higher version,
and list both. A saga stays on the version that it was born with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sagas.definitions import image_processing
from sagas.engine.definition import Definition

DEFINITIONS: tuple[Definition, ...] = (image_processing.DEFINITION,)

_for_a_while: list[Definition] = []


class UnknownDefinition(LookupError):
    """This code has no such saga type or version: a newer release wrote the saga."""


def all_definitions() -> tuple[Definition, ...]:
    """Every version of every saga type."""
    return (*DEFINITIONS, *_for_a_while)


def current_definitions() -> dict[str, Definition]:
    """The newest version of each saga type, by name."""
    newest: dict[str, Definition] = {}
    for definition in sorted(all_definitions(), key=lambda item: item.version):
        newest[definition.name] = definition
    return newest


def current(name: str) -> Definition:
    """The version in which new sagas of this type are born. Raises UnknownDefinition."""
    try:
        return current_definitions()[name]
    except KeyError:
        raise UnknownDefinition(f"no saga type is called {name}") from None


def get(name: str, version: int) -> Definition:
    """One version of a saga type. Raises UnknownDefinition."""
    for definition in all_definitions():
        if definition.name == name and definition.version == version:
            return definition
    raise UnknownDefinition(f"no saga type {name} in version {version}")


def problems() -> list[str]:
    """All that is wrong with the definitions, each by itself and together, in words."""
    found = [problem for definition in all_definitions() for problem in definition.problems()]
    versions = [(definition.name, definition.version) for definition in all_definitions()]
    found += [
        f"{name} version {version} is listed twice"
        for name, version in set(versions)
        if versions.count((name, version)) > 1
    ]
    owners: dict[str, str] = {}
    for definition in all_definitions():
        for word in [*definition.event_of, *(topic for event in definition.events for topic in event.topics)]:
            owner = owners.setdefault(word, definition.name)
            if owner != definition.name:
                found.append(f"{word} belongs to {owner} and to {definition.name}: an event has one saga type")
    return found


@contextmanager
def also(*definitions: Definition) -> Iterator[None]:
    """Lists more definitions for a while. For tests; not safe across threads."""
    _for_a_while.extend(definitions)
    try:
        yield
    finally:
        del _for_a_while[-len(definitions) :]
