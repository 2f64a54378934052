"""An event that does not say what happened changes nothing, and people see it until another one tells."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bridge import event_log
from bridge.codec import get_codec
from bridge.envelope import Envelope, Message
from bridge.models import Event
from sagas import queries
from sagas.applying.apply import run_apply
from sagas.models import SagaLog
from sagas.queries.attention_items import of_sagas
from tests.integration.bridge_messages import body

pytestmark = pytest.mark.django_db

TASK, IMAGE = "task-1", "image-1"
TOPICS = {
    "RetrievalStarted": "retrieval-started",
    "ImagesRetrieved": "images-retrieved",
    "AnonymizationCompleted": "anonymization-completed",
    "RetrievalCompleted": "retrieval-completed",
    "ProcessingCompleted": "image-processed",
}


def tell(type_: str, number: int = 0, **fields: Any) -> Event:
    topic = TOPICS[type_]
    raw = body(f"{type_}-{number}", type=type_, **{"task_id": TASK, **fields})
    found = get_codec().decode(Message(topic, topic, f"1:{number}:-1:-1", 0, raw, {}), timezone.now())
    assert isinstance(found, Envelope), found
    event_log.store_batch([found])
    run_apply()
    return Event.objects.get(event_id=f"{type_}-{number}")


@pytest.fixture(autouse=True)
def _waiting_for_processing() -> None:
    tell("RetrievalStarted")
    tell("ImagesRetrieved", image_ids=[IMAGE])
    tell("AnonymizationCompleted", image_id=IMAGE)
    tell("RetrievalCompleted", result={"successful_images": 1})


def found() -> queries.Attention:
    return queries.attention(kind="unclear")


def status() -> str:
    return SagaLog.objects.get().status


def test_the_list_reads_no_log_of_a_saga_that_waits_unless_an_event_is_unclear() -> None:
    """In one query for both, the planner began with the thousands of sagas that wait, and read the log of each."""
    with CaptureQueriesContext(connection) as captured:
        queries.attention()
    assert captured.captured_queries
    assert [query["sql"] for query in captured if "sagas_saga_event" in query["sql"]] == []


def test_it_is_in_attention_until_another_event_tells() -> None:
    assert tell("ProcessingCompleted", 1, image_id=IMAGE, status="COMPLETED?").unclear
    assert tell("ProcessingCompleted", 2, status="FAILED").unclear
    assert status() == "STARTED"
    (item,) = found().items
    assert (item.count, item.saga_id) == (2, SagaLog.objects.get().id)
    assert item.sentence.startswith("2 events of saga task-1 do not say whether the work succeeded")
    assert found().by_kind["unclear"] == 1
    assert not tell("ProcessingCompleted", 3, image_id=IMAGE, status="completed").unclear
    assert status() == "COMPLETED"
    assert found().items == []


def test_page_api_and_timeline_say_it(client: Client) -> None:
    tell("ProcessingCompleted", 1, image_id=IMAGE)
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    start = client.get("/admin/").content.decode()
    assert "does not say whether the work succeeded" in start
    assert "unclear event" in start
    told = client.get("/api/v1/saga/attention").json()
    assert [item["kind"] for item in told["items"]] == ["unclear"]
    saga = SagaLog.objects.get()
    entries = [
        entry for entry in queries.timeline(saga.id).items if entry.detail.get("event_id") == "ProcessingCompleted-1"
    ]
    assert [entry.changes for entry in entries] == [["It does not say whether the work succeeded, or what failed"]]


def test_after_a_week_the_saga_alone_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tell("ProcessingCompleted", 1, image_id=IMAGE, status="?")
    assert found().items
    monkeypatch.setattr(of_sagas, "UNCLEAR_SHOWN", timedelta(0))
    assert found().items == []


def test_in_a_saga_of_a_version_that_counts_it_as_a_success_people_see_it_too() -> None:
    SagaLog.objects.update(version=1)
    tell("ProcessingCompleted", 1, image_id=IMAGE, status="?")
    assert status() == "COMPLETED", "it stays on the version with which it began"
    (item,) = found().items
    assert item.sentence == (
        "1 event of saga task-1 does not say whether the work succeeded, but counts as a success by version 1 of its "
        "definition."
    )
    assert item.advice == "Check it in the service. Undo it if the work failed."
    assert found().by_kind["unclear"] == 1
    SagaLog.objects.update(status="COMPENSATING")
    assert found().items == [], "it is being undone"
