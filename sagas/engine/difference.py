"""Write a definition's next version as its difference from an earlier one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace as with_fields
from typing import Any

from sagas.engine.definition import Compensation, Definition, Event

Item = Event | Compensation


def changed(
    definition: Definition,
    *,
    version: int,
    add: Iterable[Item] = (),
    replace: Iterable[Item] = (),
    remove: Iterable[str] = (),
    **fields: Any,
) -> Definition:
    """Return a whole definition: the given one with a higher version and these changes. Validates only the changes.

    `add`: events and compensations to append. `replace`: each takes the place of the event of its type or of the
    compensation of its command. `remove`: event types and commands. `fields`: other fields of the definition, such as
    `title`. Raises ValueError, with every mistake, if the version is not higher, if what is replaced or removed does
    not exist, if what is added does, or if something is named twice.
    """
    add, replace, remove = tuple(add), tuple(replace), tuple(remove)
    mistakes = list(_mistakes(definition, version, add, replace, remove))
    if mistakes:
        raise ValueError(f"{definition.name} version {version}: {'; '.join(mistakes)}")
    replaced = {_key(item): item for item in replace}
    before: tuple[Item, ...] = (*definition.events, *definition.compensations)
    items = [*(replaced.get(_key(item), item) for item in before if _name(item) not in remove), *add]
    return with_fields(
        definition,
        version=version,
        events=tuple(item for item in items if isinstance(item, Event)),
        compensations=tuple(item for item in items if isinstance(item, Compensation)),
        **fields,
    )


def _mistakes(
    definition: Definition, version: int, add: tuple[Item, ...], replace: tuple[Item, ...], remove: tuple[str, ...]
) -> Iterator[str]:
    before: tuple[Item, ...] = (*definition.events, *definition.compensations)
    known = {_key(item) for item in before}
    names = Counter(name for _, name in known)
    if version <= definition.version:
        yield f"the version must be higher than {definition.version}"
    yield from (f"{_name(item)} is to be added, but exists: replace it" for item in add if _key(item) in known)
    yield from (f"{_name(item)} is to be replaced, but does not exist" for item in replace if _key(item) not in known)
    yield from (f"{name} is to be removed, but does not exist" for name in remove if not names[name])
    yield from (f"{name} is to be removed, but is an event and a command" for name in remove if names[name] > 1)
    yield from (f"{_name(item)} is to be replaced and removed" for item in replace if _name(item) in remove)
    items: tuple[Item, ...] = (*add, *replace)
    named = Counter([*(_key(item) for item in items), *(("", name) for name in remove)])
    yield from (f"{name} is named more than once" for (_, name), count in named.items() if count > 1)


def _key(item: Item) -> tuple[str, str]:
    return type(item).__name__, _name(item)


def _name(item: Item) -> str:
    return item.type if isinstance(item, Event) else item.command
