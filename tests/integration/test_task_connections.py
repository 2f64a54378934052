"""A worker's process keeps its connection over tasks: one that died or was broken costs the next task nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

import compensation.tasks
import sagas.tasks
from sagas.applying import sweeper
from tests.integration.connections import second_connection

pytestmark = pytest.mark.django_db(transaction=True)

TASKS = (sagas.tasks.apply, sagas.tasks.sweep, compensation.tasks.sweep, compensation.tasks.publish)


def own_session() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


@pytest.fixture(autouse=True)
def _no_dead_connection_is_left() -> Iterator[None]:
    yield
    connection.close()


@pytest.mark.parametrize("task", TASKS)
def test_a_task_after_the_server_ended_the_session_works(task: Any) -> None:
    session = own_session()
    with second_connection() as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [session])

    assert task.apply().successful()

    assert own_session() != session


def test_a_task_that_fails_leaves_no_connection_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    session = own_session()

    def fail() -> None:
        raise ValueError("in the middle of a query, for all that is known")

    monkeypatch.setattr(sweeper, "sweep", fail)

    assert sagas.tasks.sweep.apply().failed()

    assert connection.connection is None
    assert own_session() != session


def test_a_connection_that_works_is_kept() -> None:
    session = own_session()

    assert sagas.tasks.sweep.apply().successful()

    assert own_session() == session
