"""The table of commands gets its kinds while workers of an earlier release insert, claim and read."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event as Flag

import pytest
from django.core.management import call_command
from django.db import connection

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE, AFTER = "0013", "0016"
ROWS = 30_000

# What an earlier release names, and no column more.
INSERT = """
    INSERT INTO compensation_command
        (id, saga_id, stream, key, routing_key, entity, name, service, confirmation, invalid, topic, body,
         initial_interval, backoff_coefficient, maximum_interval, maximum_attempts, jitter, non_retryable,
         confirmation_timeout, status, round, attempt, next_at, settled_at, by_hand, settled_event, exhausted_by,
         last_error, planned_at, released_at)
    SELECT gen_random_uuid(), gen_random_uuid(), 'image_processing', n, n, n, 'DeleteRetrievedImage',
           'DATA_RETRIEVAL', 'event', '', 'data-retrieval-commands', '{}', 1, 2, 100, 10, 0, '[]', 300,
           CASE WHEN n %% 10 = 0 THEN 'planned' ELSE 'confirmed' END, 1, 0,
           CASE WHEN n %% 10 = 0 THEN now() END, CASE WHEN n %% 10 > 0 THEN now() END, false, '', '', '', now(), now()
    FROM generate_series(%(first)s, %(last)s) AS n
"""
CLAIM = """
    WITH due AS MATERIALIZED (
        SELECT id FROM compensation_command
        WHERE status IN ('planned', 'waiting') AND released_at IS NOT NULL AND held_since IS NULL AND next_at <= now()
        ORDER BY next_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE compensation_command c SET status = 'publishing', attempt = c.attempt + 1, claimed_at = now(), next_at = NULL
    FROM due WHERE c.id = due.id
"""


def migrate(to: str) -> None:
    call_command("migrate", "compensation", to, verbosity=0)


@pytest.fixture
def _before() -> Iterator[None]:
    migrate(BEFORE)
    try:
        yield
    finally:
        migrate(AFTER)


@pytest.mark.usefixtures("_before")
def test_kinds_come_beside_the_work_of_an_earlier_release() -> None:
    with connection.cursor() as cursor:
        cursor.execute(INSERT, {"first": 1, "last": ROWS})
    written_at = _file()
    begun, done = Flag(), Flag()
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(_earlier_worker, begun, done)
        assert begun.wait(20)
        migrate(AFTER)
        done.set()
        rounds = working.result(20)
    assert rounds > 3
    assert _file() == written_at, "the table was written anew, under a lock that lets nobody read"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT kind, count(*), count(*) FILTER (WHERE status = 'publishing') FROM compensation_command"
            " GROUP BY kind"
        )
        assert cursor.fetchall() == [("publish", ROWS + 10 * rounds, rounds)]
        cursor.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
        assert cursor.fetchall() == []
        cursor.execute(
            "SELECT conname FROM pg_constraint"
            " WHERE conrelid = 'compensation_command'::regclass AND contype = 'c' AND NOT convalidated"
        )
        assert cursor.fetchall() == []


@pytest.mark.usefixtures("_before")
def test_a_migration_that_ended_early_is_started_again() -> None:
    """It left its index, unfinished or not, and the earlier one may be gone."""
    migrate("0015")
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX command_due_by_kind ON compensation_command (kind)")
        cursor.execute("DROP INDEX command_ready")
    migrate(AFTER)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_indexdef('command_due_by_kind'::regclass)")
        [(definition,)] = cursor.fetchall()
    assert "(kind, next_at) WHERE" in definition


def _file() -> int:
    """Return the number of the file that holds the table."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_filenode('compensation_command')")
        [(number,)] = cursor.fetchall()
    return int(number)


def _earlier_worker(begun: Flag, done: Flag) -> int:
    """Insert ten rows and claim one every 20 ms; return how often."""
    rounds = 0
    try:
        with connection.cursor() as cursor:
            while not done.is_set():
                cursor.execute(INSERT, {"first": 10 * rounds + ROWS + 1, "last": 10 * rounds + ROWS + 10})
                cursor.execute(CLAIM)
                rounds += 1
                begun.set()
                done.wait(0.02)
    finally:
        connection.close()
    return rounds
