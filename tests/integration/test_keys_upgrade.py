"""The unique key of events moves to their day in a running database, beside bridges of both releases.

A probe inserts and reads every 50 ms, as the bridge of the earlier release does, and measures how long it waits. The
table is small here; what it costs on a million sagas is for the bench.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg2
import pytest
from django.db import ProgrammingError, connections
from pytest_django import DjangoDbBlocker

from bridge import event_log
from bridge.envelope import Envelope
from bridge.event_log import StoreResult
from sagaproject import database_url, env
from tests.integration.bridge_messages import CODEC, message
from tests.integration.connections import InThread

pytestmark = pytest.mark.timeout(300)

EVERY, LONGEST = 0.05, 1.0
STORED = 20_000
WHEN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
LOCK_TIMEOUT = "?options=-c%20lock_timeout%3D2s"

# How the earlier release stores a batch.
EARLIER_INSERT = """
    WITH r AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(%s::jsonb) AS r(
            source text, event_id text, occurred_at timestamptz, payload jsonb, body_hash text)
    ), event AS (
        INSERT INTO bridge_event (source, event_id, stream, type, key, entity, correlation_id, occurred_at, received_at,
            topic, message_id, note, payload, body_hash)
        SELECT source, event_id, 'orders', 'OrderPlaced', 'o-1', '', '', occurred_at, now(), 'orders', '1:1:-1:0', '',
            payload, decode(body_hash, 'hex') FROM r
        ON CONFLICT (source, event_id) DO NOTHING
        RETURNING id, source, event_id
    ), pending AS (
        INSERT INTO bridge_pending (id, key) SELECT id, 'orders:o-1' FROM event
    )
    SELECT event_id, id FROM event
"""
EARLIER_LOOK_UP = "SELECT id, body_hash FROM bridge_event WHERE source = 'pulsar' AND event_id = %s"

SEED = """
    INSERT INTO bridge_event (source, event_id, stream, type, key, entity, correlation_id, occurred_at, received_at,
        topic, message_id, note, payload, body_hash)
    SELECT CASE WHEN n %% 10 = 0 THEN 'compensation' ELSE 'pulsar' END, 'seed-' || md5(n::text), 'orders',
        'OrderPlaced', 'o-' || n / 20, '', '', now() - n * interval '5 minutes', now(), 'orders', '1:' || n || ':-1:0',
        '', CASE WHEN n %% 7 = 0 THEN '{"order": "o"}' ELSE '{"timestamp": "x", "order": "o"}' END::jsonb, '\\x00'
    FROM generate_series(1, %s) AS n
"""


class Database:
    """A database of the test's own, whose tables are those of the bridge."""

    def __init__(self, server: str) -> None:
        entry = database_url.parse(server)
        self.name = f"keys_{uuid.uuid4().hex[:8]}"
        self.url = f"postgresql://{entry['USER']}:{entry['PASSWORD']}@{entry['HOST']}:{entry['PORT']}/{self.name}"

    def migrate(self, to: str, limits: str = LOCK_TIMEOUT) -> None:
        """Migrate as an operator does, in a process of its own."""
        done = subprocess.run(
            [sys.executable, "manage.py", "migrate", "--no-input", "bridge", to, "--settings", "tests.settings"],
            env={"ENVIRONMENT": "dev", "DATABASE_URL": self.url + limits},
            cwd=env.ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def ask(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(self.url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def one(self, sql: str) -> Any:
        return self.ask(sql)[0][0]


@pytest.fixture
def database(
    postgres_url: str, django_db_modify_db_settings: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[Database]:
    """Give a database at the schema of the earlier release, to which threads with Django's connection are led."""
    made = Database(postgres_url)
    with closing(psycopg2.connect(postgres_url)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {made.name}")
            known = connections.settings["default"]
            before, known["NAME"] = known["NAME"], made.name
            try:
                made.migrate("0011")
                with django_db_blocker.unblock():
                    yield made
            finally:
                known["NAME"] = before
                cursor.execute(f"DROP DATABASE {made.name} WITH (FORCE)")


class Probe:
    """Does something every 50 ms until it is stopped, and keeps the longest time that it took."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self._act = act
        self._stop = threading.Event()
        self.turns, self.longest = 0, 0.0
        self._thread = InThread(self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self._act(self.turns)
            self.longest = max(self.longest, time.monotonic() - began)
            self.turns += 1
            self._stop.wait(EVERY)

    def goes_on(self, turns: int = 20) -> None:
        """Wait until it has done so many more."""
        goal, deadline = self.turns + turns, time.monotonic() + 60
        while self.turns < goal:
            assert self._thread.running, self._thread.result()
            assert time.monotonic() < deadline, "the probe stands still"
            time.sleep(EVERY)

    def end(self) -> None:
        self._stop.set()
        self._thread.result()


@contextmanager
def probing(act: Callable[[int], None]) -> Iterator[Probe]:
    probe = Probe(act)
    try:
        yield probe
    finally:
        probe.end()


def batch(turn: int) -> list[Envelope]:
    """The five messages of a turn: the same for both releases, as if each bridge received all of them."""
    bodies = [
        {"id": f"turn-{turn}-{number}", "order": "o-1", "timestamp": WHEN.isoformat() if number else None}
        for number in range(5)
    ]
    found = [CODEC.decode(message(orjson.dumps(body)), datetime.now(UTC)) for body in bodies]
    return [each for each in found if isinstance(each, Envelope)]


def earlier_rows(envelopes: list[Envelope]) -> str:
    return orjson.dumps(
        [
            {
                "source": "pulsar",
                "event_id": each.event_id,
                "occurred_at": each.occurred_at,
                "payload": orjson.Fragment(each.payload),
                "body_hash": each.body_hash.hex(),
            }
            for each in envelopes
        ]
    ).decode()


def earlier_bridge(database: Database) -> Callable[[int], None]:
    """Stores and looks up as the earlier release does."""
    connection = psycopg2.connect(database.url)
    connection.autocommit = True

    def turn(number: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute(EARLIER_INSERT, [earlier_rows(batch(number))])
            cursor.execute(EARLIER_LOOK_UP, [f"turn-{number}-1"])
            assert len(cursor.fetchall()) == 1
            cursor.execute("SELECT id FROM bridge_pending ORDER BY id DESC LIMIT 100")
            assert cursor.fetchall()

    return turn


def new_bridge(number: int) -> None:
    """Stores the same turns: what the other bridge has stored is a repeat here."""
    done = event_log.store_batch(batch(number))
    assert done.stored + done.duplicates == 5


def is_whole(database: Database) -> None:
    """Each id is there once, with its day, and has waited or waits to be applied."""
    assert database.one("SELECT count(*) - count(DISTINCT (source, event_id)) FROM bridge_event") == 0
    wrong = """
        SELECT count(*) FROM bridge_event WHERE day IS DISTINCT FROM CASE
            WHEN source = 'pulsar' AND payload ->> 'timestamp' IS NOT NULL
            THEN (occurred_at AT TIME ZONE 'UTC')::date END
    """
    assert database.one(wrong) == 0


def test_the_key_moves_under_load_beside_bridges_of_both_releases(database: Database) -> None:
    database.ask(SEED, [STORED])
    with probing(earlier_bridge(database)) as earlier:
        earlier.goes_on()
        database.migrate("0014")
        earlier.goes_on()
        with probing(new_bridge) as new:
            new.goes_on(earlier.turns + 20)  # all turns of the other bridge, and some of its own
            earlier.goes_on()
            earlier.end()
            assert earlier.longest < LONGEST
            is_whole(database)
            database.migrate("0015")
            new.goes_on()
        assert new.longest < LONGEST
    is_whole(database)
    turns = max(earlier.turns, new.turns)
    assert database.one("SELECT count(*) FROM bridge_event WHERE event_id LIKE 'turn-%'") == turns * 5
    assert database.one("SELECT count(*) FROM bridge_quarantined") == 0
    invalid = "SELECT count(*) FROM pg_index WHERE indrelid = 'bridge_event'::regclass AND NOT indisvalid"
    assert database.one(invalid) == 0


def test_a_bridge_of_the_earlier_release_loses_nothing_after_the_move(database: Database) -> None:
    """It cannot store, so it acknowledges nothing; what it read is delivered again, to a new bridge."""
    database.migrate("0015")
    with pytest.raises(psycopg2.errors.InvalidColumnReference):
        database.ask(EARLIER_INSERT, [earlier_rows(batch(0))])
    assert database.one("SELECT count(*) FROM bridge_event") == 0


@pytest.mark.parametrize("schema", ["0012", "0014"])
def test_new_code_knows_what_has_no_day_yet(database: Database, schema: str) -> None:
    """A migration that was stopped: half of the events have no day, and the key of the earlier release is there."""
    first = batch(0)
    database.ask(EARLIER_INSERT, [earlier_rows(first)])
    database.migrate("0012")
    database.ask(EARLIER_INSERT, [earlier_rows(batch(1))])  # the trigger fills their day
    if schema == "0014":
        database.migrate("0014")
        database.ask(
            "ALTER TABLE bridge_event DISABLE TRIGGER USER; UPDATE bridge_event SET day = NULL WHERE id % 2 = 0"
        )
    other = first[1]._replace(body_hash=b"0" * 16)
    again = InThread(lambda: event_log.store_batch([*first, *batch(1), *batch(2), other])).result()
    assert again == StoreResult(stored=5, duplicates=10, quarantined=1)
    assert database.one("SELECT count(*) FROM bridge_event") == 15


def test_a_move_that_was_interrupted_starts_again(database: Database) -> None:
    database.ask(SEED, [STORED])
    database.migrate("0013")
    # As a build leaves it that ended in the middle.
    database.ask("CREATE UNIQUE INDEX bridge_event_once_a_day ON bridge_event (day, event_id) WHERE false")
    database.migrate("0015")
    is_whole(database)
    assert "day IS NOT NULL" in database.one("SELECT pg_get_indexdef('bridge_event_once_a_day'::regclass)")


def test_a_filled_log_is_append_only_again(database: Database) -> None:
    database.ask(SEED, [100])
    database.migrate("0015")
    with pytest.raises(psycopg2.errors.RestrictViolation):
        database.ask("SELECT set_config('bridge.filling', 'on', false); UPDATE bridge_event SET day = NULL")


def test_the_move_can_be_taken_back(database: Database) -> None:
    database.ask(SEED, [100])
    database.migrate("0015")
    database.migrate("0011", limits="")
    database.ask(EARLIER_INSERT, [earlier_rows(batch(0))])
    assert database.one("SELECT count(*) FROM bridge_event") == 105


def test_new_code_needs_its_column(database: Database) -> None:
    """Migrations go before the code: without them nothing is stored, and nothing is lost."""
    with pytest.raises(ProgrammingError):
        InThread(lambda: event_log.store_batch(batch(0))).result()
    assert database.one("SELECT count(*) FROM bridge_event") == 0
