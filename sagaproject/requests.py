"""Parse requests from the web server before any other code sees them, and answer HEAD without a body."""

from collections.abc import Callable
from typing import Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters

UNREADABLE = "invalid/invalid"  # no parser and no renderer accepts it


class SafeRequest(WSGIRequest):
    """A request in UTF-8, whatever charset its Content-Type names, without unparsable headers.

    Django decodes the query string with that charset while it makes the request, and accepts any codec of Python: with
    `charset=idna`, or with too many parameters, it raised outside all error handling.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        for name in ("CONTENT_TYPE", "HTTP_ACCEPT"):
            if not all(_is_readable(part) for part in str(environ.get(name, "")).split(",")):
                environ[name] = UNREADABLE
        super().__init__(environ)

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))


class Handler(WSGIHandler):
    """Django's handler with SafeRequest. HEAD is answered without a body, because the web server would send it."""

    request_class = SafeRequest

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        answer = super().__call__(environ, start_response)
        if environ["REQUEST_METHOD"] != "HEAD":
            return answer
        answer.close()
        return [b""]


def _is_readable(header: str) -> bool:
    try:
        parse_header_parameters(header)
    except (ValueError, LookupError):
        return False
    return True
