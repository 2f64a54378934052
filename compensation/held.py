"""Hold commands: if another saga of the same type has the same entity, a command is not sent until a person decides.

Only a command that was never claimed is held. The hold is set when the command is planned (`outbox.plan`), when a lane
of its entity opens in another saga (`hold`), and at the latest when it is claimed (`check`): no command is claimed for
the first time while another saga has a lane of its entity that was committed before the claim. A hold ends
automatically (`end`) when no other saga gives a reason for it any more, or by a person's decision (`release`), after
which the command is never held again. The setting COMMAND_OTHERS names the function that finds the other sagas.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.utils.module_loading import import_string

from bridge import wakeup


class Unclaimed(NamedTuple):
    """A command that was never claimed. held_by: the other saga because of which it is held, if it is."""

    id: str
    saga_id: str
    stream: str
    entity: str
    held_by: str | None = None


# Command id → the id of another saga that has the entity of the command; commands without another saga are omitted.
Others = Callable[[Sequence[Unclaimed]], Mapping[str, str]]


class KnownToOthers(Exception):
    """Some of the commands must be held. `others`: command id → the other saga."""

    def __init__(self, others: Mapping[str, str]) -> None:
        super().__init__(f"{len(others)} commands must be held")
        self.others = others


def check(commands: Sequence[Unclaimed]) -> None:
    """Raise KnownToOthers if another saga has the entity of one of these commands."""
    others = get_others()(commands) if commands else {}
    if others:
        raise KnownToOthers(others)


@cache
def get_others() -> Others:
    """Return the function that the setting COMMAND_OTHERS names."""
    found: Others = import_string(settings.COMMAND_OTHERS)
    return found


def of_entities(entities: Sequence[tuple[str, str]]) -> list[Unclaimed]:
    """Return the commands of these (stream, entity) that were never claimed and that no person released from a hold."""
    streams, names = [stream for stream, _ in entities], [entity for _, entity in entities]
    return _read(_OF_ENTITIES, [streams, names])


def page(after: tuple[datetime, str] | None, limit: int) -> tuple[list[Unclaimed], tuple[datetime, str] | None]:
    """Return a page of held commands, longest held first, and the position of the next page, None at the end.

    after: the position that the previous page returned; None for the first page.
    """
    with connection.cursor() as cursor:
        cursor.execute(_PAGE, [*(after or (None, None)), limit])
        rows = cursor.fetchall()
    last = (rows[-1][-1], rows[-1][0]) if len(rows) == limit else None
    return [Unclaimed._make(row[:-1]) for row in rows], last


def hold(others: Mapping[str, str], now: datetime) -> int:
    """Hold commands (id → the other saga) that were never claimed; return how many. May run twice, never waits.

    A command that is held already gets the new saga; one that a person released, or that was claimed, is not changed. A
    locked command is skipped, because claiming it checks it again.
    """
    return _execute(_HOLD, [list(others), list(others.values()), now]) if others else 0


def end(commands: Sequence[Unclaimed], now: datetime) -> int:
    """End holds that have no reason any more; return how many. May run twice, never waits.

    A command that is held because of another saga than the given one by now stays held; a locked command is left to the
    sweep. Commands that become sendable are published after the commit.
    """
    pairs = [(command.id, command.held_by) for command in commands if command.held_by]
    ended = _execute(_END, [[id_ for id_, _ in pairs], [saga for _, saga in pairs], now]) if pairs else 0
    if ended:
        wakeup.nudge_on_commit("publish")
    return ended


def release(ids: Sequence[UUID], now: datetime) -> int:
    """End the holds of these commands permanently, by a person's decision; return how many were held. May run twice.

    Runs in the caller's transaction and locks in the order of the ids. Commands that become sendable are published
    after the commit.
    """
    released = _execute(_RELEASE, [[str(id_) for id_ in ids], now, now]) if ids else 0
    if released:
        wakeup.nudge_on_commit("publish")
    return released


# LATERAL … OFFSET 0 forces the index of unclaimed commands, whatever number of entities the planner assumes.
_OF_ENTITIES = """
    SELECT c.id::text, c.saga_id::text, c.stream, c.entity, c.held_by::text
    FROM unnest(%s::text[], %s::text[]) AS w(stream, entity)
    CROSS JOIN LATERAL (
        SELECT id, saga_id, stream, entity, held_by, hold_released_at FROM compensation_command
        WHERE entity = w.entity AND stream = w.stream AND status = 'planned' OFFSET 0
    ) AS c
    WHERE c.hold_released_at IS NULL
"""

_PAGE = """
    SELECT id::text, saga_id::text, stream, entity, held_by::text, held_since FROM compensation_command
    WHERE status = 'planned' AND held_since IS NOT NULL AND (held_since, id) > (COALESCE(%s::timestamptz, '-infinity'),
        COALESCE(%s::uuid, '00000000-0000-0000-0000-000000000000'))
    ORDER BY held_since, id LIMIT %s
"""

_HOLD = """
    WITH locked AS MATERIALIZED (
        SELECT c.id, w.other FROM compensation_command c JOIN unnest(%s::uuid[], %s::uuid[]) AS w(id, other) USING (id)
        WHERE c.status = 'planned' AND c.hold_released_at IS NULL AND c.held_by IS DISTINCT FROM w.other
        ORDER BY c.id FOR NO KEY UPDATE OF c SKIP LOCKED
    )
    UPDATE compensation_command c SET held_by = locked.other, held_since = COALESCE(c.held_since, %s)
    FROM locked WHERE c.id = locked.id AND c.status = 'planned' AND c.hold_released_at IS NULL
"""

# A command that became due while it was held is due from now on: it is not late.
_END_HOLD = """
    held_since = NULL, held_by = NULL, next_at = CASE WHEN c.next_at IS NOT NULL THEN GREATEST(c.next_at, %s) END
"""

_END = f"""
    WITH locked AS MATERIALIZED (
        SELECT c.id FROM compensation_command c JOIN unnest(%s::uuid[], %s::uuid[]) AS w(id, other)
        ON c.id = w.id AND c.held_by = w.other
        ORDER BY c.id FOR NO KEY UPDATE OF c SKIP LOCKED
    )
    UPDATE compensation_command c SET {_END_HOLD} FROM locked WHERE c.id = locked.id AND c.held_since IS NOT NULL
"""  # noqa: S608 (constants of this module)

_RELEASE = f"""
    WITH locked AS MATERIALIZED (
        SELECT id FROM compensation_command
        WHERE id = ANY(%s::uuid[]) AND held_since IS NOT NULL ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE compensation_command c SET {_END_HOLD}, hold_released_at = %s
    FROM locked WHERE c.id = locked.id AND c.held_since IS NOT NULL
"""  # noqa: S608 (constants of this module)


def _read(statement: str, parameters: list[Any]) -> list[Unclaimed]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return [Unclaimed._make(row) for row in cursor.fetchall()]


def _execute(statement: str, parameters: list[Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        changed: int = cursor.rowcount
        return changed
