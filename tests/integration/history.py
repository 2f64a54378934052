"""Changes to rows that never change, for tests that need them older than they are, or gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction


def rewrite(table: str, statement: str, parameters: Sequence[Any] = ()) -> None:
    """Run a statement on an append-only table, as only the owner of the table can: without its triggers."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(statement, list(parameters))
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
