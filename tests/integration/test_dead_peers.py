"""A peer that vanished without a word is given up within seconds: the kernel is told so, on both ends."""

import socket
import sys
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from sagaproject import env


@pytest.fixture
def connection(postgres_url: str) -> Any:
    """A connection as the service makes it."""
    entry = env.read({"ENVIRONMENT": "dev", "DATABASE_URL": postgres_url}).database
    place = {"host": entry["HOST"], "port": entry["PORT"], "user": entry["USER"], "password": entry["PASSWORD"]}
    with closing(psycopg2.connect(**place, dbname="postgres", **entry["OPTIONS"])) as connection:
        yield connection


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere keepalives alone watch a connection")
def test_our_end_gives_up_a_query_that_no_one_acknowledges(connection: Any) -> None:
    with socket.socket(fileno=connection.fileno()) as ours:
        try:
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
        finally:
            ours.detach()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere keepalives alone watch a connection")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tcp_user_timeout", "20000"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("idle_in_transaction_session_timeout", "1min"),
    ],
)
def test_the_server_s_end_lets_go_of_the_locks_of_a_process_that_vanished(
    connection: Any, name: str, value: str
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")  # of the socket itself, not of the setting
        assert cursor.fetchone() == (value,)
