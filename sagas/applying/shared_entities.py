"""Hold commands for entities that two sagas of one type know: undoing the entity for one would harm the other.

A saga *knows* an entity if an event from Pulsar named it there (`Lane.known`); what only a person entered does not
count. A saga whose own lane is undone is no reason for a hold, but only if we undid it: each of its commands was sent,
or marked as done by a person. A confirmation of a command that was never sent proves nothing: anyone could have written
it.

The hold itself is in `compensation.held`; it is not part of the engine's state. Nothing here takes a saga's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from bridge import clock, routing
from compensation import held
from compensation.held import Unclaimed
from compensation.outbox import NewCommand
from sagas.models import SagaLog
from sagas.statements import KNOWING_HELD, OTHER_SAGA, OTHER_SAGAS

# How many held commands one sweep checks again.
PAGE = 1000


def others(commands: Sequence[Unclaimed]) -> Mapping[str, str]:
    """Return {command id: the least id of another saga of its type that knows its entity}. One query.

    Two index probes per command if no other saga knows the entity, which is nearly always the case.
    """
    return dict(OTHER_SAGA.rows(_columns(commands)))


def others_by_saga(commands: Sequence[Unclaimed]) -> dict[UUID, set[str]]:
    """Return all other sagas that know entities of these commands, each with the entities. One query."""
    found: dict[UUID, set[str]] = {}
    for saga_id, entity in OTHER_SAGAS.rows(_columns(commands)):
        found.setdefault(saga_id, set()).add(entity)
    return found


def known_to_others(commands: Sequence[NewCommand]) -> list[NewCommand]:
    """Return the commands to be planned, each with the saga because of which it is held. One query, none without any.

    Must be called after the lanes of the same transaction were written.
    """
    if not commands:
        return []
    found = others([Unclaimed(str(c.id), str(c.saga_id), c.stream, c.entity) for c in commands])
    if not found:
        return list(commands)
    return [replace(c, held_by=UUID(found[str(c.id)])) if str(c.id) in found else c for c in commands]


def look_again(entities: Sequence[tuple[str, str]]) -> int:
    """Hold or release the unclaimed commands of these (saga type, entity); return how many were changed.

    For entities whose lane opened or was undone: after the commit, or in the transaction of a decision, whose preview
    shows it. Never waits for a lock. May run twice. One query if no command of these entities waits to be sent.
    """
    return _compare(held.of_entities(entities))


def routing_keys(entities: Sequence[tuple[str, str]]) -> list[str]:
    """Return the routing keys of the sagas whose commands `look_again` may change."""
    ids = {command.saga_id for command in held.of_entities(entities)}
    found = SagaLog.objects.filter(id__in=ids).order_by("key").values_list("saga_type", "key") if ids else ()
    return [routing.routing_key(saga_type, key) for saga_type, key in found]


def sweep() -> int:
    """Check the next part of the held commands again: a crash may have missed the end of a hold. May run twice."""
    commands, _place.after = held.page(_place.after, PAGE)
    return _compare(commands)


def knowing_held(saga_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of the sagas that are the reason for a hold: they know an entity of another saga's held command."""
    return {row[0] for row in KNOWING_HELD.rows([list(saga_ids)])}


def _compare(commands: Sequence[Unclaimed]) -> int:
    if not commands:
        return 0
    now = clock.now()
    found = others(commands)
    new = {
        command.id: found[command.id]
        for command in commands
        if command.held_by != found.get(command.id, command.held_by)
    }
    return held.hold(new, now) + held.end(_without_reason(commands, found), now)


def _without_reason(commands: Sequence[Unclaimed], found: Mapping[str, str]) -> list[Unclaimed]:
    """Return held commands whose entity no other saga knows any more.

    Not those held because of a saga that has been pruned: it is unknown what that saga knew.
    """
    candidates = [command for command in commands if command.held_by and command.id not in found]
    if not candidates:
        return []
    holders = SagaLog.objects.filter(id__in={command.held_by for command in candidates}).values_list("id", flat=True)
    known = {str(saga_id) for saga_id in holders}
    return [command for command in candidates if command.held_by in known]


def _columns(commands: Sequence[Unclaimed]) -> list[list[str | None]]:
    """Return the commands as the parameters of `OTHER_SAGA` and `OTHER_SAGAS`."""
    return [list(column) for column in zip(*(command[:4] for command in commands), strict=True)] or [[], [], [], []]


class _HoldPosition:
    """How far this process has swept; a new one begins at the start, so that some rows are only checked twice."""

    after: tuple[datetime, str] | None = None


_place = _HoldPosition()
