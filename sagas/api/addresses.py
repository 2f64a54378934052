"""Parts of an address that may contain any character, also slashes: read from the raw address if the server has it.

WSGI passes the path decoded, so an encoded slash looks like a real one. waitress passes the raw address in REQUEST_URI,
others in RAW_URI.
"""

from __future__ import annotations

from urllib.parse import unquote

from rest_framework.request import Request


def tail(request: Request, marker: str, decoded: str) -> list[str]:
    """Return the possible values of the part after `marker`, likeliest first: one or two.

    `decoded` is that part as WSGI passes it. There can be two only without the raw address.
    """
    raw = request.META.get("RAW_URI") or request.META.get("REQUEST_URI") or ""
    path = raw.partition("?")[0]
    if marker in path:
        last = path.partition(marker)[2]
        return [unquote(last.removesuffix("/"), errors="replace")]
    return [decoded.removesuffix("/"), decoded] if decoded.endswith("/") and decoded != "/" else [decoded]
