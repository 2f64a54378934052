"""The SQLSTATE of a database error: psycopg 3 calls it sqlstate, psycopg2 pgcode."""


def sqlstate(error: BaseException | None) -> str:
    """Return the five characters of PostgreSQL's error code, or "" if the error does not come from the server.

    `error`: an exception of the driver, or Django's wrapper around one.
    """
    for source in (error, getattr(error, "__cause__", None)):
        state = getattr(source, "sqlstate", None) or getattr(source, "pgcode", None)
        if state:
            return str(state)
    return ""
