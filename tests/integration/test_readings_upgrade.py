"""The table of readings comes into a running database: an earlier release goes on beside it, and loses nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from sagaproject import database_url, env
from tests.integration.connections import InThread

pytestmark = pytest.mark.timeout(300)

BEFORE = "0011"  # the migration before it
EVERY, LONGEST = 0.02, 1.0
# How the earlier release stores, reads, moves and prunes an event.
INSERT = """
    WITH event AS (
        INSERT INTO bridge_event (source, event_id, stream, type, key, entity, correlation_id, occurred_at, received_at,
            topic, message_id, note, payload, body_hash)
        VALUES ('pulsar', %s, 'orders', 'OrderPaid', 'o-1', '', '', now(), now(), 'orders', '1:1:-1:0', '', '{}', '')
        ON CONFLICT DO NOTHING RETURNING id
    )
    INSERT INTO bridge_pending (id, key) SELECT id, 'orders:o-1' FROM event RETURNING id
"""
READ = "SELECT p.id FROM bridge_pending p JOIN bridge_event e ON e.id = p.id WHERE p.id = ANY(%s) ORDER BY p.id"
TAKE = "DELETE FROM bridge_pending WHERE id = ANY(%s)"
PRUNE = "DELETE FROM bridge_event WHERE id = ANY(%s)"


class Database:
    """A database with the tables of the bridge."""

    def __init__(self, server: str) -> None:
        entry = database_url.parse(server)
        self.name = f"readings_{uuid.uuid4().hex[:8]}"
        self.url = f"postgresql://{entry['USER']}:{entry['PASSWORD']}@{entry['HOST']}:{entry['PORT']}/{self.name}"

    def migrate(self, to: str) -> None:
        done = subprocess.run(
            [sys.executable, "manage.py", "migrate", "--no-input", "bridge", to, "--settings", "tests.settings"],
            env={"ENVIRONMENT": "dev", "DATABASE_URL": f"{self.url}?options=-c%20lock_timeout%3D2s"},
            cwd=env.ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def ask(self, *statements: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run statements in one transaction; return the rows of the last one."""
        with closing(psycopg2.connect(self.url)) as connection, connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    """A database before the table, filled by the earlier release."""
    made = Database(postgres_url)
    with closing(psycopg2.connect(postgres_url)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {made.name}")
            try:
                made.migrate(BEFORE)
                yield made
            finally:
                cursor.execute(f"DROP DATABASE {made.name} WITH (FORCE)")


def test_an_earlier_bridge_stores_on_while_the_table_comes(database: Database) -> None:
    stop = threading.Event()
    waited: list[float] = []

    def bridge() -> int:
        while not stop.wait(EVERY):
            began = time.monotonic()
            database.ask(INSERT, parameters=[f"event-{len(waited)}"])
            waited.append(time.monotonic() - began)
        return len(waited)

    beside = InThread(bridge)
    try:
        database.migrate("0016")
        known = len(waited)
        while len(waited) < known + 10:
            assert beside.running, beside.result()
            time.sleep(EVERY)
    finally:
        stop.set()
    assert beside.result() == database.ask("SELECT count(*) FROM bridge_pending")[0][0]
    assert max(waited) < LONGEST


def test_an_earlier_worker_leaves_readings_alone_and_cannot_delete_what_is_read(database: Database) -> None:
    database.migrate("0016")
    [[event]] = database.ask(INSERT, parameters=["event"])
    further = event + 1
    for id_, stream, key in ((event, "orders", "o-1"), (further, "points", "c-1")):
        row = "INSERT INTO bridge_event_reading (id, event, stream, key, entity) VALUES (%s, %s, %s, %s, '')"
        database.ask(row, parameters=[id_, event, stream, key])
    database.ask("INSERT INTO bridge_pending (id, key) VALUES (%s, 'points:c-1')", parameters=[further])
    assert database.ask(READ, parameters=[[event, further]]) == [(event,)], "of another saga type: not read"
    database.ask(TAKE, parameters=[[event]])
    assert database.ask("SELECT id FROM bridge_pending") == [(further,)]
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        database.ask("SET LOCAL bridge.retention = 'on'", PRUNE.replace("%s", f"'{{{event}}}'"))
    with pytest.raises(psycopg2.errors.RestrictViolation):
        database.ask("DELETE FROM bridge_event_reading")
