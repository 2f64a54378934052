"""Check that the database's encoding and isolation level suit the service."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from bridge import statements

_ISOLATION = "read committed"


def encoding_problem(database: BaseDatabaseWrapper | None = None) -> str:
    """Describe the problem with the database's encoding; empty if it is UTF8. Raises DatabaseError.

    PostgreSQL converts text to the encoding of the database: LATIN1 rejects most letters of the world, and SQL_ASCII
    accepts any bytes but compares and cuts them wrongly.
    """
    encoding = _setting("server_encoding", database)
    if encoding == "UTF8":
        return ""
    return (
        f"The database has the encoding {encoding}, which cannot store every message. Create it with "
        "CREATE DATABASE name ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0 and run migrate there."
    )


def isolation_problem() -> str:
    """Describe the problem with the isolation level of single statements; empty if it is right. Raises DatabaseError.

    The service requests READ COMMITTED when it connects. Behind a PgBouncer that ignores the start-up parameter
    `options`, only its transactions request it, and statements outside of one run with the role's default.
    """
    isolation = _setting("default_transaction_isolation")
    if isolation == _ISOLATION:
        return ""
    return (
        f"Statements outside a transaction run as {isolation.upper()}: under load some fail and are repeated. "
        "Run ALTER ROLE name SET default_transaction_isolation = 'read committed'."
    )


@register(Tags.database)
def check_database(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Return error bridge.E001 for a wrong encoding and warning bridge.W001 for a wrong isolation level.

    Django runs it before migrate, and with check --database default. It returns nothing while the database is
    unavailable: the code that needs the database reports that.
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
    return str(statements.SETTING.row([name], database)[0])
