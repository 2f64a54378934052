"""The queue's file stays small however much goes through it between two visits of autovacuum."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection, transaction

from sagas.applying import statements, sweeper

pytestmark = pytest.mark.django_db(transaction=True)


def ask(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])


def pass_through(count: int, *, left: int = 0) -> None:
    """So many rows come into the queue and leave it, but for the last ones; the statistics know of it at once."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bridge_pending (id, key) SELECT n, 'key' FROM generate_series(1, %s) AS n", [count])
        cursor.execute("DELETE FROM bridge_pending WHERE id <= %s", [count - left])
        cursor.execute("SELECT pg_stat_force_next_flush()")
    ask("SELECT 1")


@pytest.fixture(autouse=True)
def by_ourselves_alone() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE bridge_pending SET (autovacuum_enabled = false)")
    yield
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE bridge_pending RESET (autovacuum_enabled)")


def test_room_is_used_again() -> None:
    pass_through(30_000)
    before = ask("SELECT pg_relation_size('bridge_pending')")
    sweeper.sweep()
    pass_through(30_000)
    assert ask("SELECT pg_relation_size('bridge_pending')") == before
    assert before < 5_000_000


def test_little_is_left_alone_and_so_is_what_mostly_waits() -> None:
    pass_through(1_000)
    assert not statements.vacuum_queue()
    pass_through(121_000, left=100_000)
    assert not statements.vacuum_queue(), "a quarter of what waits must have left"


def test_in_a_transaction_it_does_nothing() -> None:
    pass_through(30_000)
    with transaction.atomic():
        assert not statements.vacuum_queue()
    assert statements.vacuum_queue()
