"""Hold commands: if another saga of the same type has the same entity, a command is not sent until a person decides.

Only a command that was never claimed is held. The hold is set when the command is planned (`outbox.plan`), when a lane
of its entity opens in another saga (`hold`), and at the latest when it is claimed (`check`): no command is claimed for
the first time while another saga has a lane of its entity that was committed before the claim. A hold ends
automatically (`end`) when no other saga gives a reason for it any more, or by a person's decision (`release`), after
which the command is never held again. The settings COMMAND_OTHERS and COMMAND_SHARERS name the functions that
find the other sagas.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string

from bridge import wakeup
from compensation import statements


class Unclaimed(NamedTuple):
    """A command that was never claimed. held_by: the other saga because of which it is held, if it is."""

    id: str
    saga_id: str
    stream: str
    entity: str
    held_by: str | None = None


# Command id → the id of another saga that has the entity of the command; commands without another saga are omitted.
Others = Callable[[Sequence[Unclaimed]], Mapping[str, str]]
# The other sagas that have entities of these commands, each with the entities.
Sharers = Callable[[Sequence[Unclaimed]], Mapping[UUID, set[str]]]


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


@cache
def get_sharers() -> Sharers:
    """Return the function that the setting COMMAND_SHARERS names."""
    found: Sharers = import_string(settings.COMMAND_SHARERS)
    return found


def of_entities(entities: Sequence[tuple[str, str]]) -> list[Unclaimed]:
    """Return the commands of these (stream, entity) that were never claimed and that no person released from a hold."""
    streams, names = [stream for stream, _ in entities], [entity for _, entity in entities]
    return [Unclaimed._make(row) for row in statements.UNCLAIMED_OF_ENTITIES.rows([streams, names])]


def page(after: tuple[datetime, str] | None, limit: int) -> tuple[list[Unclaimed], tuple[datetime, str] | None]:
    """Return a page of held commands, longest held first, and the position of the next page, None at the end.

    after: the position that the previous page returned; None for the first page.
    """
    rows = statements.HELD_PAGE.rows([*(after or (None, None)), limit])
    last = (rows[-1][-1], rows[-1][0]) if len(rows) == limit else None
    return [Unclaimed._make(row[:-1]) for row in rows], last


def hold(others: Mapping[str, str], now: datetime) -> int:
    """Hold commands (id → the other saga) that were never claimed; return how many. May run twice, never waits.

    A command that is held already gets the new saga; one that a person released, or that was claimed, is not changed. A
    locked command is skipped, because claiming it checks it again.
    """
    return statements.HOLD.run([list(others), list(others.values()), now]) if others else 0


def end(commands: Sequence[Unclaimed], now: datetime) -> int:
    """End holds that have no reason any more; return how many. May run twice, never waits.

    A command that is held because of another saga than the given one by now stays held; a locked command is left to the
    sweep. Commands that become sendable are published after the commit.
    """
    pairs = [(command.id, command.held_by) for command in commands if command.held_by]
    ended = statements.END_HOLD.run([[id_ for id_, _ in pairs], [saga for _, saga in pairs], now]) if pairs else 0
    if ended:
        wakeup.nudge_on_commit("publish")
    return ended


def release(ids: Sequence[UUID], now: datetime) -> int:
    """End the holds of these commands permanently, by a person's decision; return how many were held. May run twice.

    Runs in the caller's transaction and locks in the order of the ids. Commands that become sendable are published
    after the commit.
    """
    released = statements.RELEASE_HOLD.run([[str(id_) for id_ in ids], now, now]) if ids else 0
    if released:
        wakeup.nudge_on_commit("publish")
    return released
