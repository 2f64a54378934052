"""A filled database for tests that only read: filled once for a module, and emptied after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from django.db import connection

from sagaproject.filling import fill
from sagaproject.filling.fill import Filled, Wish
from sagaproject.filling.template import TABLES

SINCE, UNTIL = datetime(2025, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)


def wish(sagas: int, images: tuple[int, int] = (1, 2), *, in_flight: float = 0.05) -> Wish:
    return Wish(sagas, images, SINCE, UNTIL, in_flight=in_flight)


@contextmanager
def filled(wanted: Wish) -> Iterator[Filled]:
    """Fills the database, committed; leaves it empty."""
    try:
        told = fill.fill(wanted)
        fill.analyze()
        yield told
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(table.name for table in TABLES)} CASCADE")
