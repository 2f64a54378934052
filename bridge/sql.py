"""Many rows in one statement: a list of dicts becomes one JSON parameter, and a recordset on the server.

columns = columns_of(Event, "event_id", "payload")
cursor.execute(f"INSERT INTO … SELECT … FROM {recordset(columns)}", [dump(rows)])
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from django.db import connection, models


def columns_of(model: type[models.Model], *names: str) -> dict[str, str]:
    """The columns behind these fields of a model and their PostgreSQL types, in the order given.

    Raises django.core.exceptions.FieldDoesNotExist for a name that the model does not have.
    """
    fields = [model._meta.get_field(name) for name in names]
    return {field.column: field.db_type(connection) for field in fields}  # type: ignore[union-attr,misc]


def recordset(columns: Mapping[str, str], alias: str = "r") -> str:
    """A FROM item with one placeholder, which takes what `dump` makes. Keys that a row lacks are NULL."""
    definition = ", ".join(f'"{name}" {pg_type}' for name, pg_type in columns.items())
    return f"json_to_recordset(%s::json) AS {alias}({definition})"


def names(columns: Iterable[str], alias: str = "") -> str:
    """The columns as SQL, quoted: `"a", "b"`, or `r."a", r."b"` with an alias."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(f'{prefix}"{name}"' for name in columns)


def dump(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as one parameter for `recordset`. Takes what orjson takes, and bytes (for bytea).

    Raises TypeError for a value that is none of these, such as an integer over 64 bits or half a surrogate pair.
    """
    return orjson.dumps(list(rows), default=_bytea).decode()


def _bytea(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + value.hex()
    raise TypeError(f"no SQL value for {type(value).__name__}")
