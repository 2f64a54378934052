"""PostgreSQL can plan each named statement: none names a table or column that is gone."""

import re

import pytest
from django.db import connection

from bridge.sql import Statement
from sagas.statements import PARKED_GROUPS_PAGE
from tests.unit.test_statements import statements

pytestmark = pytest.mark.django_db

# What stands for the query of the ORM that a statement is put around.
QUERY = "SELECT now() AS line_at, 1 AS line_rank, 2 AS line_number, 'a'::text AS line_kind, 'b'::text AS line_ref"

GROUPS = "SELECT now() AS first_at, 'a'::text AS stream, 'b'::text AS key, 1::bigint AS alone"


@pytest.mark.parametrize("statement", [pytest.param(one, id=name) for _, name, one in statements()])
def test_a_statement_can_be_planned(statement: Statement) -> None:
    text, count = numbered(statement.text.replace("{query}", GROUPS if statement is PARKED_GROUPS_PAGE else QUERY))
    if text.startswith("SHOW"):
        assert statement.row()
        return
    values = f"({', '.join(['NULL'] * count)})" if count else ""
    with connection.cursor() as cursor:
        cursor.execute(f"PREPARE one AS {text}")
        cursor.execute(f"EXPLAIN EXECUTE one{values}")
        assert cursor.fetchall()
        cursor.execute("DEALLOCATE one")


def numbered(text: str) -> tuple[str, int]:
    """Return a statement with $1, $2 … in place of its placeholders, and their number."""
    seen: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        key = match.group(1) or f"#{len(seen)}"
        return f"${seen.setdefault(key, len(seen) + 1)}"

    return re.sub(r"%(?:\((\w+)\))?s", number, text).replace("%%", "%"), len(seen)
