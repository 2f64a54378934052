"""Entities that two sagas of one type know: what undoing them for one saga would take from the other is held.

A saga *knows* an entity when an event from Pulsar named it there (`Lane.known`); what only a person said of it does not
count. A saga whose own lane is undone has no reason to hold anything, but only if we undid it: each of its commands was
sent, or marked done by a person. A confirmation of what was never sent proves nothing, anybody could have written it.

The hold itself is `compensation.held`; it is no part of the engine's state. Nothing here takes a saga's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from django.db import connection

from bridge import clock
from compensation import held
from compensation.held import Unclaimed
from compensation.outbox import NewCommand
from sagas.models import SagaLog

# Held commands that one sweep looks at again.
PAGE = 1000


def others(commands: Sequence[Unclaimed]) -> Mapping[str, str]:
    """Return for each command whose entity another saga of its type knows the least id of such a saga. One query.

    Two index probes a command where nobody else knows the entity, which is nearly always so.
    """
    with connection.cursor() as cursor:
        cursor.execute(_OTHERS, _columns(commands))
        return dict(cursor.fetchall())


def others_by_saga(commands: Sequence[Unclaimed]) -> dict[UUID, set[str]]:
    """Return all other sagas that know entities of these commands, each with the entities. One query."""
    found: dict[UUID, set[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_ALL_OTHERS, _columns(commands))
        for saga_id, entity in cursor.fetchall():
            found.setdefault(saga_id, set()).add(entity)
    return found


def known_to_others(commands: Sequence[NewCommand]) -> list[NewCommand]:
    """Return commands that are to be planned, each with the saga that holds it. One query, none without commands.

    Must be called after the lanes of the same transaction were written.
    """
    if not commands:
        return []
    found = others([Unclaimed(str(c.id), str(c.saga_id), c.stream, c.entity) for c in commands])
    if not found:
        return list(commands)
    return [replace(c, held_by=UUID(found[str(c.id)])) if str(c.id) in found else c for c in commands]


def look_again(entities: Sequence[tuple[str, str]]) -> int:
    """Hold, or let go, the unclaimed commands of these (saga type, entity); returns how many were changed.

    For entities whose lane opened or was undone: after the commit, or in the transaction of a decision, whose preview
    shows it. Never waits for a lock. May run twice. One query where no command of these entities waits to be sent.
    """
    return _compare(held.of_entities(entities))


def routing_keys(entities: Sequence[tuple[str, str]]) -> list[str]:
    """Return the routing keys of the sagas whose commands `look_again` may change."""
    ids = {command.saga_id for command in held.of_entities(entities)}
    found = SagaLog.objects.filter(id__in=ids).order_by("key").values_list("saga_type", "key") if ids else ()
    return [f"{saga_type}:{key}" for saga_type, key in found]


def sweep() -> int:
    """Look again at the next part of what is held: the end of a hold may have been missed by a crash. May run twice."""
    commands, _place.after = held.page(_place.after, PAGE)
    return _compare(commands)


def knowing_held(saga_ids: Sequence[UUID]) -> set[UUID]:
    """Which of these sagas know an entity of which another saga holds a command: they are the reason for the hold."""
    with connection.cursor() as cursor:
        cursor.execute(_KNOWING_HELD, [list(saga_ids)])
        return {row[0] for row in cursor.fetchall()}


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
    """Held commands whose entity no other saga knows any more. What a pruned saga knew, nobody can say."""
    free = [command for command in commands if command.held_by and command.id not in found]
    if not free:
        return []
    there = SagaLog.objects.filter(id__in={command.held_by for command in free}).values_list("id", flat=True)
    known = {str(saga_id) for saga_id in there}
    return [command for command in free if command.held_by in known]


def _columns(commands: Sequence[Unclaimed]) -> list[list[str | None]]:
    """The commands as the parameters of `_WANTED`."""
    return [list(column) for column in zip(*(command[:4] for command in commands), strict=True)] or [[], [], [], []]


class _Place:
    """How far this process has swept; a new one begins at the start, which only means to look twice."""

    after: tuple[datetime, str] | None = None


_place = _Place()


# A lane that is undone, though one of its commands was neither sent nor marked done by a person.
_NOT_UNDONE_BY_US = """EXISTS (
    SELECT 1 FROM compensation_command c WHERE c.saga_id = l.saga_id AND c.entity = l.entity AND NOT c.by_hand
    AND NOT EXISTS (
        SELECT 1 FROM compensation_attempt a
        WHERE a.command_id = c.id AND a.outcome NOT IN ('failed', 'unreachable', 'blocked')
    )
)"""

# LATERAL … OFFSET 0: lanes by their entity, then each lane's saga by its id, whatever the planner makes of the numbers.
_WANTED = "unnest(%s::text[], %s::uuid[], %s::text[], %s::text[]) AS w(id, saga_id, stream, entity)"
_OF_ONE = f"""
    SELECT l.saga_id FROM (
        SELECT saga_id, entity, outcome FROM sagas_lane
        WHERE entity = w.entity AND known AND saga_id <> w.saga_id OFFSET 0
    ) AS l
    CROSS JOIN LATERAL (SELECT saga_type FROM sagas_saga WHERE id = l.saga_id OFFSET 0) AS s
    WHERE s.saga_type = w.stream AND (l.outcome <> 'undone' OR {_NOT_UNDONE_BY_US})
"""  # noqa: S608 (constants of this module)
_OTHERS = f"""
    SELECT w.id, o.saga_id::text FROM {_WANTED} CROSS JOIN LATERAL ({_OF_ONE} ORDER BY l.saga_id LIMIT 1) AS o
"""  # noqa: S608 (constants of this module)
_ALL_OTHERS = f"""
    SELECT DISTINCT o.saga_id, w.entity FROM {_WANTED} CROSS JOIN LATERAL ({_OF_ONE}) AS o
"""  # noqa: S608 (constants of this module)

_KNOWING_HELD = """
    SELECT DISTINCT w.saga_id FROM unnest(%s::uuid[]) AS w(saga_id)
    CROSS JOIN LATERAL (SELECT entity FROM sagas_lane WHERE saga_id = w.saga_id AND known OFFSET 0) AS l
    CROSS JOIN LATERAL (
        SELECT 1 FROM compensation_command
        WHERE entity = l.entity AND status = 'planned' AND held_since IS NOT NULL AND saga_id <> w.saga_id LIMIT 1
    ) AS c
"""
