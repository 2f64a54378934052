"""DATABASE_URL in the spellings people use, as Django's DATABASES entry."""

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
# Bounds how long a peer that vanished without a word can hold a process. Keepalives watch a connection at rest; while a
# query is on its way nobody but tcp_user_timeout (milliseconds) does: without it Linux sends it again for 15 minutes.
KEEPALIVE = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# The same for the server's side: the session of a process that vanished holds the locks of its transaction.
SERVER_KEEPALIVE = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
}


class DatabaseUrlError(ValueError):
    """What is wrong with the URL, in words, without the URL: it holds a password."""


def parse(url: str) -> dict[str, Any]:
    """Give Django's DATABASES entry for `url`; raises DatabaseUrlError."""
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
        raise DatabaseUrlError("names no database: it should end in /NAME")
    return entry


def with_server_settings(entry: dict[str, Any], settings: dict[str, str]) -> dict[str, Any]:
    """Add `settings` as the session's defaults; what the URL's own options say wins, as the later word."""
    words = " ".join(f"-c {name}={value}" for name, value in settings.items())
    said = entry["OPTIONS"].get("options", "")
    return {**entry, "OPTIONS": {**entry["OPTIONS"], "options": f"{words} {said}".strip()}}


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise DatabaseUrlError("is no URL: write postgresql://USER:PASSWORD@HOST:PORT/NAME") from None
    if parts.scheme not in SCHEMES:
        raise DatabaseUrlError(
            "must begin with postgresql:// (also postgres://, postgresql+asyncpg://, postgresql+psycopg2://)"
        )
    if parts.fragment:
        raise DatabaseUrlError("holds a '#': write %23 for one in a password")
    return parts


def _host(parts: SplitResult) -> str:
    hosts = parts.netloc.rpartition("@")[2]
    return hosts if "," in hosts or "%2F" in hosts.upper() else parts.hostname or ""


def _port(parts: SplitResult) -> str:
    if "," in parts.netloc:
        raise DatabaseUrlError("names several hosts: give them as ?host=a,b&port=5432,5432")
    try:
        return str(parts.port or "")
    except ValueError:
        raise DatabaseUrlError("has a port that is no number from 1 to 65535 ('/' in a password is %2F)") from None


def _set_option(entry: dict[str, Any], name: str, value: str) -> None:
    if name == "ssl":  # asyncpg's word for sslmode
        name, value = "sslmode", {"true": "require", "false": "disable"}.get(value.lower(), value)
    if name in PLACES:
        entry[PLACES[name]] = value
        return
    if name not in LIBPQ_OPTIONS:
        raise DatabaseUrlError(f"has an option that PostgreSQL's client does not know: {name}")
    if name == "sslmode" and value not in SSL_MODES:
        raise DatabaseUrlError(f"has a sslmode that is none of {', '.join(sorted(SSL_MODES))}")
    entry["OPTIONS"][name] = value
