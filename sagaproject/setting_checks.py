"""Checks of single settings.

Each returns what is wrong, as the rest of a sentence that begins with the setting's name; else "".
"""

import ipaddress
import re
from urllib.parse import urlsplit

from sagaproject import database_url, pulsar_address

DEV_SECRET_KEY = "dev-only-0000-never-use-this-key-in-production"  # noqa: S105 (refused in prod)
WEAK_SECRETS = ("dev-only", "django-insecure", "change", "secret", "example", "your-", "password")
# Without a path, a login or a slash at the end, in lower case: a browser sends exactly this.
_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def secret_key(value: str, dev: bool) -> str:
    if not dev and (len(value) < 32 or len(set(value)) < 8 or value.lower().startswith(WEAK_SECRETS)):
        return "is a default or too easy to guess: use at least 32 random characters."
    return ""


def no_wildcard(value: tuple[str, ...], dev: bool) -> str:
    """Refuse a wildcard host, also in dev: any web page could point its host name at this machine and read data."""
    return "must not contain a wildcard: list the names." if any("*" in host for host in value) else ""


def origins(value: tuple[str, ...], dev: bool) -> str:
    if any("://" not in origin for origin in value):
        return "must list origins with their scheme, such as https://saga.hospital.example."
    return ""


def web_origins(value: tuple[str, ...], dev: bool) -> str:
    """Refuse what no browser sends as its page's origin, and a wildcard, also in dev: any page could read data."""
    return next((f"lists {origin!r}, which {why}" for origin in value if (why := _origin_problem(origin))), "")


def _origin_problem(origin: str) -> str:
    if "*" in origin:
        return "contains a wildcard: list each origin."
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or not _ORIGIN.fullmatch(origin):
        return "must be scheme://host or scheme://host:port, in lower case, such as https://viewer.hospital.example."
    if port == {"http": 80, "https": 443}[parts.scheme]:
        return f"names the default port {port}, which browsers leave out: leave it out too."
    return ""


def no_debug(value: bool, dev: bool) -> str:
    return "must be off in prod: error pages would show settings and data to every client." if value and not dev else ""


def no_insecure_tls(value: bool, dev: bool) -> str:
    return "must be off in prod: any server could impersonate the broker." if value and not dev else ""


def postgresql_url(value: str, dev: bool) -> str:
    try:
        database_url.parse(value)
    except database_url.DatabaseUrlError as error:
        return f"{error}."
    return ""


def loopback_in_dev(value: str, dev: bool) -> str:
    if dev and not is_loopback(value):
        return (
            "must be a loopback address (127.0.0.1) in dev, where the API can be read without a login and the "
            f"secret key is public, not {value!r}. To serve other machines set ENVIRONMENT=prod."
        )
    return ""


def topic_part(value: str, dev: bool) -> str:
    if "/" in value or " " in value:
        return f"must be one part of a topic's name, without '/' and spaces, not {value!r}."
    return ""


def regions(value: tuple[str, ...] | str, dev: bool) -> str:
    if value != "*" and any(not region.replace("-", "").replace("_", "").isalnum() for region in value):
        return "must be a list of names such as usa,latam, or * alone for all of them."
    return ""


def is_cleartext_pulsar(url: str) -> bool:
    """Return whether a Pulsar URL contains an address that is reached over a network without TLS."""
    try:
        hosts = [host for host, _port in pulsar_address.addresses(url)]
    except ValueError:  # not a URL, which is reported elsewhere
        return False
    return not url.startswith("pulsar+ssl://") and not all(is_loopback(host) for host in hosts)


def is_cleartext_http(url: str) -> bool:
    """Return whether an HTTP URL names an address that is reached over a network without TLS."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and not is_loopback(parts.hostname or "")
    except ValueError:  # not a URL, which is reported elsewhere
        return False


def is_loopback(host: str) -> bool:
    """Return whether an address or host name is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
