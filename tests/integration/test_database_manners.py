"""What the service asks of its database: the isolation of its transactions, room for its locks, text in UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import psycopg2
import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.backends.postgresql.base import DatabaseWrapper

from bridge import database, event_log, sql
from bridge.models import Pending
from sagaproject import database_url, env
from sagas.applying import claim, statements
from sagas.applying.apply import run_apply
from sagas.models import SagaLog
from tests.integration.story import event, new_ids

needs_database = pytest.mark.django_db(transaction=True)

# --- isolation ---


@pytest.fixture
def strict_role(transactional_db: None) -> Iterator[str]:
    """Give a role whose transactions are REPEATABLE READ unless they ask for something else."""
    role = f"strict_{uuid.uuid4().hex[:8]}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'pw'")
        cursor.execute(f"ALTER ROLE {role} SET default_transaction_isolation = 'repeatable read'")
    yield role
    with connection.cursor() as cursor:
        cursor.execute(f"DROP ROLE {role}")


def connected_as(role: str, *, through_pooler: bool = False) -> DatabaseWrapper:
    """A connection with the project's settings. A pooler that ignores `options` is one that never sees them."""
    other: Any = connection.copy()
    other.settings_dict.update(USER=role, PASSWORD="pw")
    if through_pooler:
        del other.settings_dict["OPTIONS"]["options"]
    wrapper: DatabaseWrapper = other
    return wrapper


def isolation_of(other: DatabaseWrapper) -> str:
    with other.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        return str(cursor.fetchone()[0])


def test_every_statement_is_read_committed_whatever_the_roles_default(strict_role: str) -> None:
    with closing(connected_as(strict_role)) as other:
        assert isolation_of(other) == "read committed"
        other.set_autocommit(False)
        assert isolation_of(other) == "read committed"
        other.rollback()


def test_transactions_are_read_committed_also_through_a_pooler_that_ignores_options(
    strict_role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(connected_as(strict_role, through_pooler=True)) as other:
        other.set_autocommit(False)
        assert isolation_of(other) == "read committed"
        other.rollback()
        other.set_autocommit(True)
        assert isolation_of(other) == "repeatable read"
        # What is left is told.
        monkeypatch.setattr(sql, "connection", other)
        assert "REPEATABLE READ" in database.isolation_problem()
        assert [found.id for found in database.check_database(["default"])] == ["bridge.W001"]


@needs_database
def test_a_database_that_is_as_it_should_be_has_no_problem() -> None:
    assert (database.encoding_problem(), database.isolation_problem()) == ("", "")
    assert database.check_database(["default"]) == []


# --- locks ---


def lock_keys(stack: ExitStack, url: str, count: int) -> None:
    """Hold so many locks as a page does, until the stack ends."""
    session = stack.enter_context(closing(psycopg2.connect(url)))
    with session.cursor() as cursor:
        keys = [f"{uuid.uuid4()}" for _ in range(count)]
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(k, 0)) FROM unnest(%s::text[]) k", [keys])


@needs_database
@pytest.mark.parametrize("turns", [1, 2, 16, 64])
def test_the_pages_of_all_turns_at_once_have_room_in_the_lock_table(turns: int, postgres_url: str) -> None:
    """A page of 2,000 keys in each of 16 turns has not: the server then refuses locks to everybody."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('max_locks_per_transaction')::int * current_setting('max_connections')::int"
        )
        promised = cursor.fetchone()[0]
    keys = min(statements.most_keys(turns), settings.APPLY_PAGE)
    assert keys >= 1
    assert keys * turns <= promised
    with ExitStack() as stack:
        for _ in range(turns):
            lock_keys(stack, postgres_url, keys)


@needs_database
def test_pages_of_more_keys_than_that_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "_lock_table", lambda: 400)
    monkeypatch.setattr(settings, "APPLY_TURNS", 10)
    locked: list[int] = []
    real = statements.try_lock

    def spied(keys: Any) -> set[str]:
        held = real(keys)
        locked.append(len(held))
        return held

    monkeypatch.setattr(statements, "try_lock", spied)
    tasks = new_ids(95)
    event_log.append([event("RetrievalStarted", task) for task in tasks])
    event_log.append([event("RetrievalFailed", task, seconds=5, error_message="no") for task in tasks])
    assert run_apply() == 190
    assert locked == [30, 30, 30, 5]
    assert SagaLog.objects.count() == 95


@needs_database
def test_a_page_whose_events_are_of_few_sagas_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    window = [statements.PendingRow(number, f"key {number % 7}", None) for number in range(5000)]
    pages = list(claim.split(window, 10))
    assert [len(page) for page in pages] == [2000, 2000, 1000]


@needs_database
def test_where_the_lock_table_is_full_all_the_same_smaller_pages_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "_lock_table", lambda: 4000)
    monkeypatch.setattr(statements._LockShare, "factor", 1)
    real, tries = statements.try_lock, [0]

    def full_once(keys: Any) -> set[str]:
        tries[0] += 1
        if tries[0] == 1:
            with connection.cursor() as cursor:
                cursor.execute("DO $$ BEGIN RAISE 'out of shared memory' USING ERRCODE = '53200'; END $$")
        return real(keys)

    monkeypatch.setattr(statements, "try_lock", full_once)
    before = statements.most_keys(2)
    event_log.append([event("RetrievalStarted", task) for task in new_ids(3)])
    assert run_apply() == 0
    assert Pending.objects.count() == 3
    assert statements.most_keys(2) == before // 2
    assert run_apply() == 3


@needs_database
def test_another_operational_error_is_not_taken_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_keys: Any) -> set[str]:
        raise OperationalError("the connection is gone")

    monkeypatch.setattr(statements, "try_lock", broken)
    event_log.append([event("RetrievalStarted", new_ids(1)[0])])
    with pytest.raises(OperationalError):
        run_apply()


# --- encoding ---


@pytest.fixture
def database_of(postgres_url: str) -> Iterator[Any]:
    made: list[str] = []
    with closing(psycopg2.connect(postgres_url)) as session:
        session.autocommit = True

        def make(encoding: str) -> str:
            name = f"encoded_{uuid.uuid4().hex[:8]}"
            with session.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
            made.append(name)
            entry = database_url.parse(postgres_url)
            return f"postgresql://{entry['USER']}:{entry['PASSWORD']}@{entry['HOST']}:{entry['PORT']}/{name}"

        yield make
        with session.cursor() as cursor:
            for name in made:
                cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def manage(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=env.ROOT,
        env={**bare, "ENVIRONMENT": "dev", "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_migrate_refuses_a_database_that_is_not_utf8(encoding: str, database_of: Any) -> None:
    url = database_of(encoding)
    done = manage(url, "migrate")
    assert done.returncode != 0
    assert f"The database has the encoding {encoding}" in done.stderr
    assert "ENCODING 'UTF8'" in done.stderr
    with closing(psycopg2.connect(url)) as session, session.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'bridge%' OR relname = 'django_migrations'")
        assert cursor.fetchone() == (0,)
    assert manage(url, "check", "--database", "default").returncode != 0


def test_migrate_takes_a_database_that_is_utf8(database_of: Any) -> None:
    done = manage(database_of("UTF8"), "migrate")
    assert done.returncode == 0, done.stderr


@needs_database
def test_a_database_that_is_away_is_not_an_error_of_the_saga(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_args: Any) -> str:
        raise OperationalError("away")

    monkeypatch.setattr(database, "_setting", away)
    with transaction.atomic():
        assert database.check_database(["default"]) == []
