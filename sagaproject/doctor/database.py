"""Check the database: whether it answers, accepts writes, stores all text, and has this version's tables."""

from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from bridge.database import encoding_problem
from bridge.sqlstate import sqlstate
from sagaproject import env, statements
from sagaproject.doctor.finding import Finding, error, first_line, ok

OLDEST = 14
FOR_DEVELOPMENT = " For development, make up starts one on this machine."


def check_database(database: BaseDatabaseWrapper = connection) -> Finding:
    """Check that PostgreSQL answers, is new enough, and stores UTF-8."""
    name = "database"
    address = _address(settings.DATABASES["default"])
    try:
        (version,) = statements.SERVER_VERSION.row(database=database)
        encoding = encoding_problem(database)
    except DatabaseError as failure:
        return error(
            name,
            f"PostgreSQL at {address} does not answer: {first_line(failure)}",
            "Start it, or correct DATABASE_URL." + (FOR_DEVELOPMENT if env.has_devtools() else ""),
        )
    if int(version.split(".")[0]) < OLDEST:
        return error(name, f"PostgreSQL {version} is too old.", f"Use PostgreSQL {OLDEST} or later.")
    if encoding:
        return error(name, encoding, "Then restore the data into it.")
    return ok(name, f"PostgreSQL {version} at {address} answers.")


def check_writes(database: BaseDatabaseWrapper = connection) -> Finding:
    """Check that the database accepts writes, with a row that is rolled back."""
    name = "database writes"
    is_standby, is_read_only = statements.READ_ONLY.row(database=database)
    if is_standby:
        return error(
            name, "It is a standby server, which accepts no writes.", "Set DATABASE_URL to the primary server."
        )
    if is_read_only:
        return error(
            name,
            "default_transaction_read_only is on: the database accepts no writes.",
            "Turn it off (ALTER DATABASE … or ALTER ROLE … RESET default_transaction_read_only), and find out who set "
            "it and why: some servers turn it on automatically when their disk is nearly full.",
        )
    try:
        _write_and_roll_back(database)
    except DatabaseError as failure:
        code = sqlstate(failure) or "no code"
        return error(
            name,
            f"The database refuses writes ({type(failure).__name__} {code}).",
            "53100 is a full disk, 42501 a missing grant, 42P01 a missing table: see migrations.",
        )
    return ok(name, "The database accepts writes.")


def check_migrations() -> Finding:
    """Check that the tables are those of this version."""
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not waiting:
        return ok("migrations", "All migrations of this version are applied.")
    names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in waiting[:5])
    return error("migrations", f"{len(waiting)} migrations are not applied: {names}.", "Run manage.py migrate.")


def _write_and_roll_back(database: BaseDatabaseWrapper) -> None:
    with transaction.atomic(using=database.alias):
        statements.TRY_TO_WRITE.run(database=database)
        transaction.set_rollback(True, using=database.alias)


def _address(entry: dict[str, Any]) -> str:
    return f"{entry['HOST'] or 'the local socket'}{':' + entry['PORT'] if entry['PORT'] else ''}/{entry['NAME']}"
