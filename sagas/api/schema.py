"""What the schema tells beside what the views say of themselves."""

from __future__ import annotations

from typing import Any

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
    """The health of the service, which is no view of this API: it must answer without login, database or throttle."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Health"}}}
    result["components"]["schemas"]["Health"] = _HEALTH
    for address in ("/api/v1/saga/health", "/health"):
        result["paths"][address] = {
            "get": {
                "operationId": "health" if "saga" in address else "root_health",
                "description": "How the parts fare, measured now or from a heartbeat.",
                "security": [{}],
                "responses": {
                    "200": {"description": "", "content": content},
                    "503": {"description": "the database is away", "content": content},
                },
            }
        }
    return result
