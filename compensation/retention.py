"""Retention of commands: they are deleted with their sagas, and only when all of them are settled."""

from collections.abc import Sequence
from uuid import UUID

from django.db import connection

from compensation.models import SETTLED


def with_open_commands(saga_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of these sagas that have an unsettled command."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT saga_id FROM compensation_command WHERE saga_id = ANY(%s) AND status <> ALL(%s)",
            [list(saga_ids), [status.value for status in SETTLED]],
        )
        return {row[0] for row in cursor.fetchall()}


def forget(saga_ids: Sequence[UUID]) -> None:
    """Delete the commands of these sagas with their attempts.

    Runs in the caller's transaction, inside `bridge.retention.deleting`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_COMMANDS, [list(saga_ids)])
        commands = [row[0] for row in cursor.fetchall()]
        if not commands:
            return
        cursor.execute(_DELETE_ATTEMPTS, [commands])
        cursor.execute("DELETE FROM compensation_command WHERE id = ANY(%s::uuid[])", [commands])


# LATERAL … OFFSET 0 forces an index lookup for each saga or command, whatever their number.
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
