"""Run SQL that the ORM cannot express: named statements, each with its reason, and many rows for one of them.

Each app has one module `statements` with its statements; there is no SQL elsewhere (tests/unit/test_statements.py).

A list of dicts becomes one array per column, and rows again on the server:

columns = columns_of(Event, "event_id", "payload")
INSERT = Statement("…", f"INSERT INTO … SELECT … FROM {recordset(columns)}")
INSERT.run(dump(columns, rows))

The arrays are formatted as text here: the server reads them twice as fast as JSON (0.3 µs per value, which is most of
the cost of a narrow row), and the driver's own conversion of lists takes 2 µs per value.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from operator import itemgetter
from typing import Any

import orjson
from django.db import DataError, connection, models
from django.db.backends.base.base import BaseDatabaseWrapper

Parameters = Sequence[Any] | Mapping[str, Any]


class Statement:
    """One SQL statement. Its name is that of its constant.

    why: why the ORM will not do, as a sentence. text: the SQL, or a function that returns it, called once at the first
    use (columns of models are unknown while Django starts). All methods run it in the caller's transaction.
    """

    def __init__(self, why: str, text: str | Callable[[], str]) -> None:
        self.why = why
        self._text = text

    @cached_property
    def text(self) -> str:
        """The SQL, with placeholders for the parameters."""
        return self._text if isinstance(self._text, str) else self._text()

    def rows(self, parameters: Parameters = (), database: BaseDatabaseWrapper | None = None) -> list[Any]:
        """Run it and return all rows, as tuples."""
        with (database or connection).cursor() as cursor:
            cursor.execute(self.text, parameters)
            return list(cursor.fetchall())

    def row(self, parameters: Parameters = (), database: BaseDatabaseWrapper | None = None) -> Any:
        """Run it and return its only row, as a tuple."""
        (row,) = self.rows(parameters, database)
        return row

    def run(self, parameters: Parameters = (), database: BaseDatabaseWrapper | None = None) -> int:
        """Run it and return how many rows it changed."""
        with (database or connection).cursor() as cursor:
            cursor.execute(self.text, parameters)
            return int(cursor.rowcount)

    def around(self, queryset: models.QuerySet[Any, Any]) -> tuple["Statement", list[Any]]:
        """Return the statement with a query of the ORM in place of {query}, and the parameters of that query."""
        query, parameters = queryset.query.sql_with_params()
        return Statement(self.why, self.text.replace("{query}", query)), list(parameters)


def columns_of(model: type[models.Model], *names: str) -> dict[str, str]:
    """Return the columns of these model fields and their PostgreSQL types, in the order given.

    Raises django.core.exceptions.FieldDoesNotExist for an unknown name.
    """
    fields = [model._meta.get_field(name) for name in names]
    return {field.column: field.db_type(connection) for field in fields}  # type: ignore[union-attr,misc]


def recordset(columns: Mapping[str, str], alias: str = "r") -> str:
    """Return a FROM item with one placeholder per column, for the parameters that `dump` returns.

    It hides the number of rows from the planner: for a page of 2,000 it would choose a full table scan at its default
    costs.
    """
    arrays = ", ".join(f'%s::{pg_type}[] AS "{name}"' for name, pg_type in columns.items())
    return (
        f"(SELECT {arrays} OFFSET 0) AS {alias}_arrays"
        f" CROSS JOIN LATERAL unnest({names(columns, f'{alias}_arrays')}) AS {alias}({names(columns)})"
    )


def names(columns: Iterable[str], alias: str = "") -> str:
    """Return the columns as SQL, quoted: `"a", "b"`, or `r."a", r."b"` with an alias."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(f'{prefix}"{name}"' for name in columns)


def dump(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the rows as parameters for `recordset`. A column that a row lacks is NULL.

    Accepts the values that orjson accepts, bytes for bytea, and for jsonb also bytes that are JSON already.
    Raises TypeError for other values, such as an integer over 64 bits or a lone surrogate, and django.db.DataError, as
    the database would, for a string with a NUL.
    """
    transposed = _transposed(list(columns), list(rows))
    return [_array(values, pg_type) for values, pg_type in zip(transposed, columns.values(), strict=True)]


def _transposed(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Sequence[Sequence[Any]]:
    """Return the values by column. Rows with all columns, the usual case, are read in half the time."""
    if rows and len(names) > 1:
        with suppress(KeyError):
            return list(zip(*map(itemgetter(*names), rows), strict=True))
    return [[row.get(name) for row in rows] for name in names]


def _array(values: Sequence[Any], pg_type: str) -> str:
    if pg_type == "jsonb":
        return "{" + ",".join("NULL" if value is None else _quoted(_json(value)) for value in values) + "}"
    text = orjson.dumps(values, default=_bytea).decode()
    if "\\" in text:  # JSON and arrays escape differently
        text = "[" + ",".join(map(_element, values)) + "]"
    return "{" + text[1:-1] + "}"


def _element(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        value = _bytea(value)
    return _quoted(value) if isinstance(value, str) else orjson.dumps(value).decode()


def _quoted(text: str) -> str:
    if "\0" in text:
        raise DataError("PostgreSQL cannot store a string that contains NUL")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _json(value: Any) -> str:
    return (value if isinstance(value, bytes) else orjson.dumps(value)).decode()


def _bytea(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + value.hex()
    raise TypeError(f"no SQL value for {type(value).__name__}")
