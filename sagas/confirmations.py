"""What confirms each command: what its definition says, or what the setting SAGA_CONFIRMATIONS says instead.

The engine does not read the setting. Only `published` makes a difference to it, and only a definition can say that.
"""

from collections.abc import Iterator
from dataclasses import replace

from django.conf import settings

from sagas.definitions import registry
from sagas.engine.definition import Compensation, Confirmation, Definition


def kind_of(item: Compensation) -> Confirmation:
    """Return what confirms such a command if it is planned now."""
    if item.confirmation is Confirmation.PUBLISHED:
        return item.confirmation
    return Confirmation(settings.SAGA_CONFIRMATIONS.get(item.command, item.confirmation))


def in_force(definition: Definition) -> Definition:
    """Return the definition as the setting changes it, for people; the engine uses the original."""
    return replace(
        definition,
        compensations=tuple(replace(item, confirmation=kind_of(item)) for item in definition.compensations),
    )


def changed() -> list[tuple[str, Confirmation, Confirmation]]:
    """Return (command, kind in the newest definition, kind in force) for each command that the setting changes."""
    items = (item for definition in registry.current_definitions().values() for item in definition.compensations)
    return sorted(
        {(item.command, item.confirmation, kind_of(item)) for item in items if kind_of(item) != item.confirmation}
    )


def problems() -> list[str]:
    """Return a sentence for each command that the setting cannot change so. Requires definitions without mistakes."""
    pairs = ((command, Confirmation(word)) for command, word in settings.SAGA_CONFIRMATIONS.items())
    return [problem for command, kind in pairs for problem in _problems(command, kind)]


def _problems(command: str, kind: Confirmation) -> Iterator[str]:
    declaring = [one for one in registry.all_definitions() if command in one.compensation_of]
    if not declaring:
        known = ", ".join(sorted({name for _, name in registry.commands()}))
        yield f"SAGA_CONFIRMATIONS names {command}, which is a command of no saga type (there are {known})"
    for definition in declaring:
        where = f"{definition.name} version {definition.version}"
        if definition.compensation_of[command].confirmation is Confirmation.PUBLISHED:
            yield (
                f"SAGA_CONFIRMATIONS changes {command}, but in {where} sending it is its confirmation, which only the "
                "definition can change"
            )
        elif kind is Confirmation.EVENT and command not in definition.confirmed_by_events:
            yield f"SAGA_CONFIRMATIONS has an event confirm {command}, but no event of {where} does"
