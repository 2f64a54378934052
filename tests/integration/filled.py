"""A filled database for tests that only read: filled once for a module, and emptied after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from django.db import connection

from devtools.filling import fill
from devtools.filling.fill import Filled, FillSpec
from devtools.filling.template import TABLES
from sagas.models import Incident

SINCE, UNTIL = datetime(2025, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)


def wish(sagas: int, images: tuple[int, int] = (1, 2), *, in_flight: float = 0.05) -> FillSpec:
    return FillSpec(sagas, images, SINCE, UNTIL, in_flight=in_flight)


@contextmanager
def filled(wanted: FillSpec, *, analyzed: bool = True) -> Iterator[Filled]:
    """Fills the database, committed; leaves it empty. analyzed: else the planner knows what it knew before, for all
    of the block."""
    try:
        if not analyzed:
            _for_each_table("ALTER TABLE {} SET (autovacuum_enabled = false)")
        told = fill.fill(wanted)
        if analyzed:
            fill.analyze()
        yield told
    finally:
        Incident.objects.all().delete()
        _for_each_table("TRUNCATE {} CASCADE")
        _for_each_table("ALTER TABLE {} RESET (autovacuum_enabled)")


def _for_each_table(statement: str) -> None:
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(statement.format(table.name))
