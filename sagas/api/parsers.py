"""Parse request bodies: JSON in UTF-8 or a form, none larger than DATA_UPLOAD_MAX_MEMORY_SIZE."""

from __future__ import annotations

from collections.abc import Mapping
from json import JSONDecodeError
from typing import Any

from django.conf import settings
from django.http import QueryDict
from rest_framework import parsers
from rest_framework.exceptions import ParseError
from rest_framework.utils import json

from sagas.api.errors import TooLarge


def _read(stream: Any) -> bytes:
    """Return the body. Raises TooLarge."""
    limit: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise TooLarge
    return body


class JSONParser(parsers.JSONParser):
    """Parse JSON (RFC 8259) as UTF-8, whatever charset the request names.

    Raises ParseError for a body that is not JSON or nested too deeply.
    """

    def parse(self, stream: Any, media_type: Any = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        try:
            return json.loads(_read(stream).decode("utf-8"))
        except ValueError as error:  # UnicodeDecodeError is one
            raise ParseError(f"JSON parse error - {_place(error)}") from None
        except RecursionError:
            raise ParseError("JSON parse error - nested too deeply") from None


class FormParser(parsers.FormParser):
    """Parse a form, as the browsable API sends it."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        return QueryDict(_read(stream), encoding="utf-8")


def _place(error: ValueError) -> str:
    """Describe what is wrong and where, without quoting the body; of all ValueErrors only JSONDecodeError does so."""
    return str(error) if isinstance(error, JSONDecodeError) else "not valid JSON in UTF-8"
