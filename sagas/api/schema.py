"""The OpenAPI schema and its page, and the additions to what the views declare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import JsonResponse
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.response import Response

from sagas.api import errors
from sagas.api.base import CountedFirst

_STATE = {"type": "string", "enum": ["ready", "disabled", "error"]}
_HEALTH = {
    "type": "object",
    "required": [
        "status",
        "version",
        "database_status",
        "pulsar_publisher_status",
        "pulsar_consumer_status",
    ],
    "properties": {
        "status": {"type": "string", "enum": ["ok", "degraded"]},
        "version": {"type": "string"},
        "database_status": _STATE,
        "pulsar_publisher_status": _STATE,
        "pulsar_consumer_status": _STATE,
    },
}


def add_health(result: dict[str, Any], **_options: Any) -> dict[str, Any]:
    """Add the health addresses, which are not views of this API: they answer without login, database or throttle."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Health"}}}
    result["components"]["schemas"]["Health"] = _HEALTH
    for address in ("/api/v1/saga/health", "/health"):
        result["paths"][address] = {
            "get": {
                "operationId": "health" if "saga" in address else "root_health",
                "description": "The state of the parts, measured now or from a heartbeat.",
                "security": [{}],
                "responses": {
                    "200": {"description": "", "content": content},
                    "503": {"description": "the database is not available", "content": content},
                },
            }
        }
    return result


# Without OPTIONS: DRF would render its answer with the page's template, which fails.
_READ = ["get", "head"]


class _JsonErrors(CountedFirst):
    """Return errors as JSON, at addresses whose answers are YAML or a page."""

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return errors.handle

    def handle_exception(self, exc: Exception) -> Any:
        answer: Response = super().handle_exception(exc)
        headers = {name: value for name, value in answer.items() if name != "Content-Type"}
        return JsonResponse(answer.data, status=answer.status_code, headers=headers)


class Schema(_JsonErrors, SpectacularAPIView):
    """The OpenAPI description."""

    http_method_names = _READ


class Docs(_JsonErrors, SpectacularSwaggerView):
    """The page of the OpenAPI description."""

    http_method_names = _READ
