"""Retention of commands: they leave with their sagas, and only when nothing of them is under way."""

from collections.abc import Sequence
from uuid import UUID

from django.db import connection

from compensation.models import SETTLED


def with_open_commands(saga_ids: Sequence[UUID]) -> set[UUID]:
    """Which of these sagas have a command that is not settled."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT saga_id FROM compensation_command WHERE saga_id = ANY(%s) AND status <> ALL(%s)",
            [list(saga_ids), [status.value for status in SETTLED]],
        )
        return {row[0] for row in cursor.fetchall()}


def forget(saga_ids: Sequence[UUID]) -> None:
    """Delete the commands of these sagas with their attempts. In the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM compensation_attempt a USING compensation_command c"
            " WHERE a.command_id = c.id AND c.saga_id = ANY(%s)",
            [list(saga_ids)],
        )
        cursor.execute("DELETE FROM compensation_command WHERE saga_id = ANY(%s)", [list(saga_ids)])
