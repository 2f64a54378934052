"""Parse DATABASE_URL, in its common spellings, to Django's DATABASES entry."""

from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SCHEMES = frozenset(
    {"postgres", "postgresql"}
    | {f"{name}+{driver}" for name in ("postgres", "postgresql") for driver in ("asyncpg", "psycopg2", "psycopg")}
)
LIBPQ_OPTIONS = frozenset(
    {
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslcompression", "sslsni"),
        *("ssl_min_protocol_version", "channel_binding", "gssencmode", "krbsrvname", "passfile", "service"),
        *("connect_timeout", "application_name", "fallback_application_name", "options", "client_encoding"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
        *("target_session_attrs", "load_balance_hosts"),
    }
)
PLACES = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
# Limits how long a peer that vanished silently can block a process. Keepalives check an idle connection; while a query
# is being sent only tcp_user_timeout (milliseconds) applies: without it Linux retransmits for 15 minutes.
KEEPALIVE = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# The same for the server's side: the session of a vanished process holds the locks of its transaction.
SERVER_KEEPALIVE = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
}


class DatabaseUrlError(ValueError):
    """The URL is invalid. The text does not contain the URL, which holds a password."""


def parse(url: str) -> dict[str, Any]:
    """Return Django's DATABASES entry for `url`. Raises DatabaseUrlError."""
    parts = _split(url)
    entry: dict[str, Any] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(_host(parts)),
        "PORT": _port(parts),
        "OPTIONS": dict(KEEPALIVE),
    }
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        _set_option(entry, name, value)
    if not entry["NAME"]:
        raise DatabaseUrlError("has no database name: it must end in /NAME")
    return entry


def with_server_settings(entry: dict[str, Any], settings: dict[str, str]) -> dict[str, Any]:
    """Return the entry with `settings` as the session's defaults. The URL's own options come later and win."""
    defaults = " ".join(f"-c {name}={value}" for name, value in settings.items())
    from_url = entry["OPTIONS"].get("options", "")
    return {**entry, "OPTIONS": {**entry["OPTIONS"], "options": f"{defaults} {from_url}".strip()}}


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise DatabaseUrlError("is not a valid URL: use postgresql://USER:PASSWORD@HOST:PORT/NAME") from None
    if parts.scheme not in SCHEMES:
        raise DatabaseUrlError(
            "must begin with postgresql:// (also postgres://, postgresql+asyncpg://, postgresql+psycopg2://)"
        )
    if parts.fragment:
        raise DatabaseUrlError("contains '#': write it as %23 in a password")
    return parts


def _host(parts: SplitResult) -> str:
    hosts = parts.netloc.rpartition("@")[2]
    return hosts if "," in hosts or "%2F" in hosts.upper() else parts.hostname or ""


def _port(parts: SplitResult) -> str:
    if "," in parts.netloc:
        raise DatabaseUrlError("contains several hosts: write them as ?host=a,b&port=5432,5432")
    try:
        return str(parts.port or "")
    except ValueError:
        raise DatabaseUrlError("has a port that is not a number from 1 to 65535 ('/' in a password is %2F)") from None


def _set_option(entry: dict[str, Any], name: str, value: str) -> None:
    if name == "ssl":  # asyncpg's name of sslmode
        name, value = "sslmode", {"true": "require", "false": "disable"}.get(value.lower(), value)
    if name in PLACES:
        entry[PLACES[name]] = value
        return
    if name not in LIBPQ_OPTIONS:
        raise DatabaseUrlError(f"has an option that PostgreSQL's client does not know: {name}")
    if name == "sslmode" and value not in SSL_MODES:
        raise DatabaseUrlError(f"has an invalid sslmode; use one of {', '.join(sorted(SSL_MODES))}")
    entry["OPTIONS"][name] = value
