"""Retention of commands: they are deleted with their sagas, and only when all of them are settled."""

from collections.abc import Sequence
from uuid import UUID

from compensation import statements
from compensation.models import SETTLED, Command


def with_open_commands(saga_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of these sagas that have an unsettled command."""
    unsettled = Command.objects.filter(saga_id__in=saga_ids).exclude(status__in=SETTLED)
    return set(unsettled.order_by().values_list("saga_id", flat=True).distinct())


def forget(saga_ids: Sequence[UUID]) -> None:
    """Delete the commands of these sagas with their attempts.

    Runs in the caller's transaction, inside `bridge.retention.deleting`.
    """
    commands = [row[0] for row in statements.COMMANDS_OF_SAGAS.rows([list(saga_ids)])]
    if commands:
        statements.DELETE_ATTEMPTS.run([commands])
        statements.DELETE_COMMANDS.run([commands])
