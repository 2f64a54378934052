"""GET /health and GET /api/v1/saga/health: the results of `compensation.health` in the terms of the API's contract."""

from typing import Any

from django.db import DatabaseError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from compensation import health as verdicts
from compensation.health import Health, Name, State
from sagaproject.version import VERSION

SAFE = ("GET", "HEAD")
READY, DISABLED, ERROR = "ready", "disabled", "error"


@csrf_exempt
def health(request: HttpRequest) -> JsonResponse:
    """Answer 200, or 503 while the database is unavailable. Needs no login: contains no saga, address or person."""
    if request.method not in SAFE:
        detail = {"detail": f'Method "{request.method}" not allowed.'}
        return JsonResponse(detail, status=405, headers={"Allow": ", ".join(SAFE)})
    answer = report()
    return JsonResponse(answer, status=503 if answer["database_status"] == ERROR else 200)


def report() -> dict[str, Any]:
    """Return the state of the parts as the API's contract defines it.

    `status` is "degraded" as soon as any part does not work, including worker and beat, which have no field. A pause is
    intended, so it is "disabled" and does not degrade the status.
    """
    try:
        found = verdicts.measure()
    except DatabaseError:
        parts = dict.fromkeys(("database_status", "pulsar_publisher_status", "pulsar_consumer_status"), ERROR)
        return {"status": "degraded", "version": VERSION, **parts}
    return {
        "status": "degraded" if found.is_degraded else "ok",
        "version": VERSION,
        "database_status": READY,
        "pulsar_publisher_status": _publisher(found),
        "pulsar_consumer_status": ERROR if found.part(Name.BRIDGE).is_error else READY,
    }


def _publisher(found: Health) -> str:
    part = found.part(Name.PUBLISHER)
    if part.state == State.PAUSED:
        return DISABLED
    return ERROR if part.is_error else READY
