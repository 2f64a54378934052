"""Determine the client address of a request."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest

# If the web server does not know the address either, for example behind a Unix socket.
UNKNOWN = "0.0.0.0"  # noqa: S104 (nothing listens there)
# The part of an IPv6 address that a client cannot choose.
_NETWORK_BITS = 64


def address(request: HttpRequest) -> str:
    """Return the client's address: that of the connection, or behind proxies the one that the outermost reported.

    Only the last settings.TRUSTED_PROXIES entries of X-Forwarded-For are read, since clients can write the others. For
    an IPv6 address the network (/64) is returned: one client has all addresses in it.
    """
    connected = str(request.META.get("REMOTE_ADDR", ""))
    named = [part.strip() for part in str(request.META.get("HTTP_X_FORWARDED_FOR", "")).split(",")]
    trusted = named[-settings.TRUSTED_PROXIES :] if settings.TRUSTED_PROXIES else []
    return _plain(trusted[0] if trusted else "") or _plain(connected) or UNKNOWN


def _plain(text: str) -> str:
    """Return an address without port in its canonical spelling; empty if the text is not an address."""
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
