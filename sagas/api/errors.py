"""One shape for every error: {"detail"}, and for a bad request {"detail", "errors": {parameter: [message]}}."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.db import InterfaceError, OperationalError
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from sagas.errors import Invalid, NotFound, Refused

logger = logging.getLogger(__name__)

INVALID = "Invalid request"


class BadRequest(exceptions.APIException):
    """400: what is wrong with each parameter, in words."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = INVALID
    default_code = "invalid"

    def __init__(self, errors: Mapping[str, list[str]], detail: str = INVALID) -> None:
        super().__init__(detail)
        self.errors = errors


class BadId(exceptions.APIException):
    """400: an id in the address that is none."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "invalid"


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler of this API. What is left over is a bug, and becomes a 500."""
    if isinstance(error, NotFound | Invalid | Refused):
        return _decision_error(error)
    if isinstance(error, OperationalError | InterfaceError):
        # Its message names host and login: it belongs in the log alone.
        logger.error("the database is away: %s", type(error).__name__)
        return Response({"detail": "The database is away, try again"}, status=status.HTTP_503_SERVICE_UNAVAILABLE)
    answer = exception_handler(error, context)
    if answer is None or isinstance(error, BadId):
        return answer
    if isinstance(error, exceptions.ValidationError):
        answer.data = {"detail": INVALID, "errors": flat(error.detail)}
    elif answer.status_code == status.HTTP_400_BAD_REQUEST:
        found = error.errors if isinstance(error, BadRequest) else {"body": [str(answer.data["detail"])]}
        answer.data = {"detail": str(answer.data["detail"]), "errors": dict(found)}
    return answer


def flat(detail: Any) -> dict[str, list[str]]:
    """A serializer's errors as {field: [message]}, however deep they are."""
    if not isinstance(detail, Mapping):
        return {"body": _messages(detail)}
    return {("body" if name == "non_field_errors" else str(name)): _messages(found) for name, found in detail.items()}


def _messages(found: Any) -> list[str]:
    if isinstance(found, Mapping):
        return [message for inner in found.values() for message in _messages(inner)]
    if isinstance(found, list | tuple):
        return [message for inner in found for message in _messages(inner)]
    return [str(found)]


def _decision_error(error: Exception) -> Response:
    if isinstance(error, NotFound):
        return Response({"detail": str(error)}, status=status.HTTP_404_NOT_FOUND)
    if isinstance(error, Refused):
        return Response({"detail": str(error)}, status=status.HTTP_409_CONFLICT)
    return Response({"detail": str(error), "errors": {"body": [str(error)]}}, status=status.HTTP_400_BAD_REQUEST)
