"""GET /health and GET /api/v1/saga/health: measured now, or from a heartbeat row, never assumed."""

from datetime import timedelta
from typing import Any

from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from bridge.models import Heartbeat
from compensation.models import Switch
from sagaproject.version import VERSION

READY, DISABLED, ERROR = "ready", "disabled", "error"
# How long a heartbeat of each kind may be silent; the publisher is probed only every 15 s.
ALIVE = {"bridge": timedelta(seconds=15), "publisher": timedelta(seconds=45)}


@require_safe
def health(_request: HttpRequest) -> JsonResponse:
    """Answer 200, or 503 while the database is away. Open to all: it names no saga, address or person."""
    answer = report()
    return JsonResponse(answer, status=503 if answer["database_status"] == ERROR else 200)


def report() -> dict[str, Any]:
    """Give the state of the parts as the API's contract spells it."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        parts = {
            "database_status": READY,
            "pulsar_publisher_status": _publisher(),
            "pulsar_consumer_status": READY if is_connected("bridge") else ERROR,
        }
    except DatabaseError:
        parts = dict.fromkeys(("database_status", "pulsar_publisher_status", "pulsar_consumer_status"), ERROR)
    well = all(state != ERROR for state in parts.values())
    return {"status": "ok" if well else "degraded", "version": VERSION, **parts}


def is_connected(kind: str) -> bool:
    """Whether a process of this kind said within its time that Pulsar answers it."""
    since = timezone.now() - ALIVE[kind]
    return Heartbeat.objects.filter(kind=kind, connected=True, beat_at__gte=since).exists()


def _publisher() -> str:
    if Switch.objects.filter(service="*", paused=True).exists():
        return DISABLED
    return READY if is_connected("publisher") else ERROR
