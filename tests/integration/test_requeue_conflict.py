"""A quarantined message whose event id is in the log with other content: requeueing it is refused everywhere."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from bridge import event_log
from bridge.models import Event, Quarantined, QuarantineStatus
from sagas.errors import Refused
from sagas.models import Decision
from tests.integration.api import Api, operator
from tests.integration.decided import quarantined, request
from tests.integration.deciding import decide
from tests.integration.terminal import run

pytestmark = pytest.mark.django_db(transaction=True)

WHY = "an event with this id and different content"


def store_other(row: Quarantined) -> None:
    """The event with the message's id arrives with other content."""
    told = json.loads(bytes(row.body)) | {"hospital": "another"}
    event_log.requeue(quarantined(json.dumps(told).encode()).pk)


@pytest.fixture
def row() -> Quarantined:
    found = quarantined()
    store_other(found)
    return found


def test_it_is_not_offered(row: Quarantined) -> None:
    staff = Client()
    staff.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    page = staff.get(reverse("admin:bridge_quarantined_change", args=[row.pk])).content.decode()
    assert reverse("admin:sagas_decision_decide", args=["requeue"]) not in page
    assert reverse("admin:sagas_decision_decide", args=["dismiss_message"]) in page
    here = reverse("admin:sagas_decision_decide", args=["requeue"])
    answer = staff.post(here, {"message": row.pk, "preview": "1"})
    assert WHY in answer.content.decode()


@pytest.mark.parametrize("dry", [True, False])
def test_api_and_command_refuse_it(dry: bool, row: Quarantined) -> None:
    answer = Api(operator()).post(f"quarantine/{row.pk}/requeue", {"reason": "because", "dry_run": dry})
    assert answer.status_code == 409
    assert WHY in answer.content.decode()
    ran = run("requeue_message", row.pk, *(("--dry-run",) if dry else ("--reason", "because", "--yes")))
    assert ran.code == 4
    assert WHY in ran.err
    row.refresh_from_db()
    assert (row.status, Decision.objects.count()) == (QuarantineStatus.OPEN, 0)


def test_an_event_that_arrives_after_the_check_refuses_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    row = quarantined()

    def too_early(_row: Quarantined) -> None:
        store_other(row)

    monkeypatch.setattr(event_log, "unreadable", too_early)
    with pytest.raises(Refused, match=WHY):
        decide("requeue", request(), message=row.pk)
    row.refresh_from_db()
    assert (row.status, Event.objects.count()) == (QuarantineStatus.OPEN, 0), "all of it is rolled back"
