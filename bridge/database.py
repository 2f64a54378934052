"""What the database must be for the service to keep what it is given."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

_ISOLATION = "read committed"


def encoding_problem(database: BaseDatabaseWrapper | None = None) -> str:
    """Say what is wrong with the database's encoding; empty if nothing is. Raises DatabaseError if it cannot be asked.

    PostgreSQL converts text to the encoding of the database: LATIN1 refuses most of the world's letters, and SQL_ASCII
    takes any bytes and compares and cuts them wrongly.
    """
    encoding = _setting("server_encoding", database)
    if encoding == "UTF8":
        return ""
    return (
        f"The database has the encoding {encoding}, which cannot hold every message. Create it with "
        "CREATE DATABASE name ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0 and run migrate there."
    )


def isolation_problem() -> str:
    """Say what is wrong with the isolation of single statements; empty if nothing is. Raises DatabaseError.

    The service asks for READ COMMITTED when it connects. Behind a PgBouncer that ignores the start-up parameter
    `options` only its transactions ask for it, and the role's default holds for statements outside of one.
    """
    isolation = _setting("default_transaction_isolation")
    if isolation == _ISOLATION:
        return ""
    return (
        f"Statements outside of a transaction run as {isolation.upper()}: under load some fail and are repeated. "
        "Run ALTER ROLE name SET default_transaction_isolation = 'read committed'."
    )


@register(Tags.database)
def check_database(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Error bridge.E001 for an encoding that loses text, Warning bridge.W001 for an isolation that costs repetitions.

    Django runs it before migrate, and with check --database default. Where the database is away it says nothing:
    whoever needs it says so.
    """
    if "default" not in (databases or ()):
        return []
    try:
        encoding, isolation = encoding_problem(), isolation_problem()
    except DatabaseError:
        return []
    found: list[CheckMessage] = [Error(encoding, id="bridge.E001")] if encoding else []
    return [*found, Warning(isolation, id="bridge.W001")] if isolation else found


def _setting(name: str, database: BaseDatabaseWrapper | None = None) -> str:
    with (database or connection).cursor() as cursor:
        cursor.execute("SELECT current_setting(%s)", [name])
        return str(cursor.fetchone()[0])
