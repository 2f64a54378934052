"""COPY with either driver: psycopg2 copies from and to files, psycopg 3 by blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any

from django.db import connection
from django.db.backends.postgresql.psycopg_any import is_psycopg3


def copy_out(query: str, parameters: Mapping[str, Any]) -> Iterator[str]:
    """Return the rows of a query, one line each, as COPY writes them."""
    rows = StringIO()
    with connection.cursor() as cursor:
        bound = cursor.mogrify(query, parameters)
        statement = f"COPY ({bound if isinstance(bound, str) else bound.decode()}) TO STDOUT"
        if is_psycopg3:
            with cursor.copy(statement) as blocks:
                for block in blocks:
                    rows.write(bytes(block).decode())
        else:
            cursor.copy_expert(statement, rows)
    rows.seek(0)
    return iter(rows)


def copy_in(cursor: Any, statement: str, text: str) -> None:
    """Write lines with a `COPY … FROM STDIN`. Needs a transaction if several belong together."""
    if is_psycopg3:
        with cursor.copy(statement) as target:
            target.write(text)
    else:
        cursor.copy_expert(statement, StringIO(text))
