"""One shape for all errors: {"detail"}, and for a bad request {"detail", "errors": {parameter: [message]}}."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import BadRequest as MalformedRequest
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import HttpRequest, JsonResponse
from django.http.multipartparser import MultiPartParserError
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from bridge.sqlstate import sqlstate
from sagas.errors import Invalid, NotFound, Refused

logger = logging.getLogger(__name__)

INVALID = "Invalid request"
UNAVAILABLE = "The database is not available, try again"
READ_ONLY = "The database is read-only at present, try again"
# SQLSTATE read_only_sql_transaction: a standby, or a database that was set read-only.
_READ_ONLY_STATE = "25006"


class BadRequest(exceptions.APIException):
    """400: what is wrong with each parameter."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = INVALID
    default_code = "invalid"

    def __init__(self, errors: Mapping[str, list[str]], detail: str = INVALID) -> None:
        super().__init__(detail)
        self.errors = errors


class BadId(exceptions.APIException):
    """400: a malformed id in the address."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "invalid"


class TooLarge(exceptions.APIException):
    """413: a body larger than this service accepts."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is too large"
    default_code = "too_large"


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Handle exceptions for DRF. Returns None for a bug, which becomes a 500."""
    if isinstance(error, NotFound | Invalid | Refused):
        return _decision_error(error)
    problem = database_complaint(error)
    if problem:
        logger.error("the database cannot answer: %s", type(error).__name__)
        return Response({"detail": problem}, status=status.HTTP_503_SERVICE_UNAVAILABLE)
    if isinstance(error, RequestDataTooBig):
        error = TooLarge()
    elif isinstance(error, SuspiciousOperation | MalformedRequest | MultiPartParserError):
        error = exceptions.ParseError(INVALID)
    answer = exception_handler(error, context)
    if answer is None or isinstance(error, BadId):
        return answer
    if isinstance(error, exceptions.ValidationError):
        answer.data = {"detail": INVALID, "errors": flat(error.detail)}
    elif answer.status_code == status.HTTP_400_BAD_REQUEST:
        found = error.errors if isinstance(error, BadRequest) else {"body": [str(answer.data["detail"])]}
        answer.data = {"detail": str(answer.data["detail"]), "errors": dict(found)}
    return answer


def database_complaint(error: BaseException | None) -> str:
    """Return why the database cannot answer, or "". Its own message is left out: it names host and login."""
    if isinstance(error, OperationalError | InterfaceError):
        return UNAVAILABLE
    return READ_ONLY if isinstance(error, DatabaseError) and sqlstate(error) == _READ_ONLY_STATE else ""


def outside_views(request: HttpRequest, code: int, error: BaseException | None = None) -> JsonResponse | None:
    """Answer in JSON if no view of the API answered: unknown address, refused host, fault. Else return None."""
    if not f"{request.path_info}/".startswith("/api/"):
        return None
    problem = database_complaint(error)
    if problem:
        return JsonResponse({"detail": problem}, status=status.HTTP_503_SERVICE_UNAVAILABLE)
    if isinstance(error, RequestDataTooBig):
        code = TooLarge.status_code
    detail = {400: INVALID, 404: "Not found", 500: "Internal error"}.get(code, HTTPStatus(code).phrase)
    return JsonResponse({"detail": detail}, status=code)


def flat(detail: Any) -> dict[str, list[str]]:
    """Return a serializer's errors as {field: [message]}, at any depth."""
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
