"""From which address a request comes."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest

# Where the web server does not know it either, such as behind a socket file.
UNKNOWN = "0.0.0.0"  # noqa: S104 (nothing listens there)
# Of an IPv6 address the part that a client cannot choose.
_NETWORK_BITS = 64


def address(request: HttpRequest) -> str:
    """Return the client's address: who connected, or behind trusted proxies whom the outermost of them named.

    Of X-Forwarded-For the last settings.TRUSTED_PROXIES entries are read, since clients can write those before. Of an
    IPv6 address it is the network (/64): one client has all addresses in it.
    """
    connected = str(request.META.get("REMOTE_ADDR", ""))
    named = [part.strip() for part in str(request.META.get("HTTP_X_FORWARDED_FOR", "")).split(",")]
    trusted = named[-settings.TRUSTED_PROXIES :] if settings.TRUSTED_PROXIES else []
    return _plain(trusted[0] if trusted else "") or _plain(connected) or UNKNOWN


def _plain(text: str) -> str:
    """Give an address without its port, in its one spelling; empty if it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.IPv6Network((found.packed, _NETWORK_BITS), strict=False).network_address)
    return str(found)
