"""What the log of our own PostgreSQL says of statements that fail: the error, and nothing of what they carried."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from devtools.embedded import postgres
from sagaproject import env

MARKER = "MRN-4711-Muster"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Give the URL of a server as the stack starts it, and its log."""
    folder = tmp_path_factory.mktemp("logged")
    with postgres.temporary(folder) as url:
        yield url, folder / "postgres.log"


def fails(url: str, statement: str, values: tuple[object, ...] = (), *, timeout: str = "0") -> str:
    """Run a statement that must fail; give what the server calls its error."""
    table = "CREATE TEMP TABLE kept (id int PRIMARY KEY, body jsonb NOT NULL, note text CHECK (note <> %s))"
    connection = psycopg2.connect(url)
    try:
        cursor = connection.cursor()
        cursor.execute(table, [MARKER])
        cursor.execute("INSERT INTO kept VALUES (1, %s, 'x')", [f'"{MARKER}"'])
        cursor.execute("SELECT set_config('statement_timeout', %s, false)", [timeout])
        with pytest.raises(psycopg2.Error) as caught:
            _run(cursor, statement, values)
    finally:
        connection.close()
    return str(caught.value).splitlines()[0]


def _run(cursor: psycopg2.extensions.cursor, statement: str, values: tuple[object, ...]) -> None:
    if statement.startswith("COPY"):
        cursor.copy_expert(statement, io.StringIO("\t".join(["2", f"{{{MARKER}", "x"]) + "\n"))
    else:
        cursor.execute(statement, values)


@pytest.mark.parametrize(
    ("statement", "values", "timeout"),
    [
        ("SELECT pg_sleep(20), %s", (MARKER,), "50ms"),
        ("SELECT pg_sleep(20) FROM (VALUES (%s)) AS stored(body)", (MARKER * 100,), "50ms"),
        ("INSERT INTO kept VALUES (1, %s, %s)", ('"x"', MARKER[:-1]), "0"),
        ("INSERT INTO kept (id, note) VALUES (2, %s)", (MARKER[:-1] + "r",), "0"),
        ("INSERT INTO kept VALUES (2, %s, 'x')", (f'{{"a": {MARKER}',), "0"),
        ("INSERT INTO kept VALUES (3, '1', %s)", (MARKER,), "0"),
        ("COPY kept FROM STDIN", (), "0"),
    ],
)
def test_the_servers_log_holds_nothing_of_a_statement_that_fails(
    statement: str, values: tuple[object, ...], timeout: str, server: tuple[str, Path]
) -> None:
    url, log = server
    before = log.read_text(encoding="utf-8").count("ERROR:")
    told = fails(url, statement, values, timeout=timeout)
    text = log.read_text(encoding="utf-8")
    assert text.count("ERROR:") == before + 1  # it is logged that it failed
    assert told in text
    assert MARKER[:-1] not in text


def test_docker_compose_sets_the_same() -> None:
    text = (env.ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert [setting for setting in postgres.LOGS_NO_PAYLOAD if f"-c{setting}\n" not in text] == []
