"""The registry of saga types and their versions.

To change a definition that existing sagas use: leave the old file unchanged, add a new one with a higher version, and
list both. A saga keeps the version under which it was born; if that has no runs and its task is started again, it moves
to the version that continues it, if one is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from sagas.definitions import image_processing
from sagas.definitions.merged import conflicts
from sagas.engine.definition import Definition, Event
from sagas.engine.problems import problems_of

DEFINITIONS: tuple[Definition, ...] = image_processing.VERSIONS

_additional: list[Definition] = []


class UnknownDefinition(LookupError):
    """This code does not know the saga type or version: a newer release stored the saga."""


def all_definitions() -> tuple[Definition, ...]:
    """Return every version of every saga type."""
    return (*DEFINITIONS, *_additional)


def current_definitions() -> Mapping[str, Definition]:
    """Return the newest version of each saga type, by name, under which new sagas are born."""
    return _index().newest


def current(name: str) -> Definition:
    """Return the version under which new sagas of this type are born. Raises UnknownDefinition."""
    try:
        return current_definitions()[name]
    except KeyError:
        raise UnknownDefinition(f"there is no saga type {name}") from None


def get(name: str, version: int) -> Definition:
    """Return one version of a saga type. Raises UnknownDefinition."""
    try:
        return _index().versions[name, version]
    except KeyError:
        raise UnknownDefinition(f"there is no saga type {name} in version {version}") from None


def continuation(name: str, version: int) -> Definition | None:
    """Return the version to which sagas of this one move when their task is started again; None if they stay."""
    return _index().continuations.get((name, version))


def always_successes() -> Mapping[tuple[str, int], frozenset[str]]:
    """Return, by saga type and version, the event types that mean a success there, whatever their success field says.

    The newest version reads that field.
    """
    newest = current_definitions()
    fields = {name: {event.type for event in item.events if event.success_field} for name, item in newest.items()}
    found = {
        (item.name, item.version): frozenset(
            event.type for event in item.events if event.type in fields.get(item.name, ()) and not event.success_field
        )
        for item in all_definitions()
    }
    return {version: types for version, types in found.items() if types}


def counts_lanes(name: str, version: int) -> bool:
    """Return whether some event of this version announces its lanes; False for one that this code does not know."""
    try:
        return get(name, version).counts_lanes
    except UnknownDefinition:
        return False


def commands() -> list[tuple[str, str]]:
    """Return (service, command) for every command that a listed version can send, sorted."""
    return sorted({(item.service, item.command) for one in all_definitions() for item in one.compensations})


def event(name: str, event_type: str) -> Event | None:
    """Return the event from the newest version of this saga type that declares it; None if none does.

    Older versions count too, because sagas of them may be in flight.
    """
    return _index().events.get((name, event_type))


def starts(name: str, event_type: str) -> bool:
    """Return whether such an event starts a saga. Sagas start in the newest version, so only that one counts."""
    definition = current_definitions().get(name)
    known = definition.event_of.get(event_type) if definition else None
    return known is not None and known.starts


class _Index(NamedTuple):
    """Lookups that are needed for each event, built once for each list of definitions."""

    definitions: tuple[Definition, ...]
    newest: Mapping[str, Definition]
    versions: Mapping[tuple[str, int], Definition]
    events: Mapping[tuple[str, str], Event]
    continuations: Mapping[tuple[str, int], Definition]


_latest_index = _Index((), {}, {}, {}, {})


def _index() -> _Index:
    """Return the index of the definitions that are listed now. Comparing identical objects costs almost nothing."""
    global _latest_index  # noqa: PLW0603 (tests list other definitions temporarily)
    listed = all_definitions()
    if _latest_index.definitions != listed:
        rising = sorted(listed, key=lambda item: (not item.continues, item.version))
        _latest_index = _Index(
            listed,
            newest={item.name: item for item in rising if not item.continues},
            versions={(item.name, item.version): item for item in rising},
            events={(item.name, event.type): event for item in rising for event in item.events},
            continuations={(item.name, item.continues): item for item in rising if item.continues},
        )
    return _latest_index


def problems() -> list[str]:
    """Return one sentence for each mistake of a definition or contradiction between definitions. Never raises."""
    found: list[str] = []
    valid: list[Definition] = []
    listed: tuple[object, ...] = all_definitions()
    for number, item in enumerate(listed, start=1):
        if not isinstance(item, Definition):
            found.append(
                f"definition {number} of the registry is not a Definition, but a value of {type(item).__name__}"
            )
            continue
        wrong = problems_of(item)
        found += wrong
        if not wrong:
            valid.append(item)
    versions = [(item.name, item.version) for item in valid]
    found += [
        f"{name} version {version} is listed twice"
        for name, version in dict.fromkeys(versions)
        if versions.count((name, version)) > 1
    ]
    return [*found, *conflicts(valid), *_continuation_problems(valid)]


def _continuation_problems(definitions: list[Definition]) -> Iterator[str]:
    known = {(item.name, item.version): item for item in definitions}
    for item in definitions:
        if not item.continues:
            continue
        begun, where = known.get((item.name, item.continues)), f"{item.name} version {item.version}"
        if begun is None:
            yield f"{where}: it continues version {item.continues}, which is not listed"
        elif begun.restarts or not item.restarts:
            yield f"{where}: it can only continue a version without `restarts`, and must have it"
        elif replace(begun, version=item.version) != _without_runs(item):
            yield f"{where}: it may differ from version {item.continues}, which it continues, in nothing but its runs"


def _without_runs(definition: Definition) -> Definition:
    events = tuple(replace(event, opening=False) for event in definition.events)
    return replace(definition, continues=0, restarts=False, events=events)


@contextmanager
def also(*definitions: Definition) -> Iterator[None]:
    """List more definitions inside the context. For tests; not safe across threads."""
    _additional.extend(definitions)
    try:
        yield
    finally:
        del _additional[-len(definitions) :]
