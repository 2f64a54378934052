"""Parts of an address that may hold anything, also slashes: read from the address as it was sent, where the server
tells it.

WSGI gives the path decoded, in which an encoded slash cannot be told from a real one. waitress has the address as it
was sent in REQUEST_URI, others in RAW_URI.
"""

from __future__ import annotations

from urllib.parse import unquote

from rest_framework.request import Request


def tail(request: Request, marker: str, decoded: str) -> list[str]:
    """What may be meant by the part after `marker`: the likeliest first, one or two.

    `decoded` is that part as WSGI gives it. Only where nobody tells how the address was sent, there may be two.
    """
    sent = request.META.get("RAW_URI") or request.META.get("REQUEST_URI") or ""
    path = sent.partition("?")[0]
    if marker in path:
        last = path.partition(marker)[2]
        return [unquote(last.removesuffix("/"), errors="replace")]
    return [decoded.removesuffix("/"), decoded] if decoded.endswith("/") and decoded != "/" else [decoded]
