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
    """Delete the commands of these sagas with their attempts. In the caller's transaction, inside
    `bridge.retention.deleting`."""
    with connection.cursor() as cursor:
        cursor.execute(_COMMANDS, [list(saga_ids)])
        commands = [row[0] for row in cursor.fetchall()]
        if not commands:
            return
        cursor.execute(_DELETE_ATTEMPTS, [commands])
        cursor.execute("DELETE FROM compensation_command WHERE id = ANY(%s::uuid[])", [commands])


# LATERAL … OFFSET 0: by index, one saga or command after the other, whatever the planner makes of their number.
_COMMANDS = """
    SELECT c.id::text FROM unnest(%s::uuid[]) AS w(saga_id)
    CROSS JOIN LATERAL (SELECT id FROM compensation_command WHERE saga_id = w.saga_id OFFSET 0) AS c
"""
_DELETE_ATTEMPTS = """
    DELETE FROM compensation_attempt WHERE id = ANY(ARRAY(
        SELECT a.id FROM unnest(%s::uuid[]) AS w(command_id)
        CROSS JOIN LATERAL (SELECT id FROM compensation_attempt WHERE command_id = w.command_id OFFSET 0) AS a
    ))
"""
