"""GET /health says what is so, and nothing that is not."""

import pytest
from django.test import Client
from django.utils import timezone

from bridge.models import Heartbeat


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/health", "/health/", "/api/v1/saga/health"])
def test_without_heartbeats_the_service_is_degraded(client: Client, address: str) -> None:
    answer = client.get(address)

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "degraded",
        "version": "0.1.0",
        "database_status": "ready",
        "pulsar_publisher_status": "error",
        "pulsar_consumer_status": "error",
    }


@pytest.mark.django_db
def test_fresh_heartbeats_make_it_ok(client: Client) -> None:
    now = timezone.now()
    for name, kind in (("bridge:here:1", "bridge"), ("publisher", "publisher")):
        Heartbeat.objects.create(name=name, kind=kind, started_at=now, beat_at=now, connected=True, detail={})

    assert client.get("/health").json()["status"] == "ok"
