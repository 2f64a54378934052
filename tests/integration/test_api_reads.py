"""What clients rely on: paths, names, types, texts; each answer held against the schema."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

import pytest
from django.utils import timezone

from bridge import event_log
from compensation.models import Attempt, Command
from sagas.applying.apply import run_apply
from sagas.models import SagaLog
from tests.integration.api import BASE, Api
from tests.integration.story import event, image_through, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)

SUMMARY = {
    "id", "correlation_id", "saga_type", "status", "steps_count", "failed_steps_count", "start_time", "end_time",
    "error_message",
}  # fmt: skip


def tell(*facts: Any) -> None:
    event_log.append(list(facts))
    run_apply()


def failed(images: int = 1) -> SagaLog:
    task, *ids = new_ids(images + 1)
    facts = [*retrieval(task, ids), *(fact for image in ids for fact in image_through(task, image)[:5])]
    tell(*facts, *(event("ProcessingFailed", task, image, seconds=60, error_message="no") for image in ids))
    return SagaLog.objects.get(key=task)


def test_the_list_has_its_envelope_and_the_newest_first() -> None:
    tasks = new_ids(3)
    for number, task in enumerate(tasks):
        tell(*retrieval(task, [f"image-{number}"], seconds=60 * number))
    body = Api().get("sagas", {"limit": 2}).json()
    assert (body["total"], body["offset"], body["limit"]) == (3, 0, 2)
    assert [item["correlation_id"] for item in body["items"]] == [tasks[2], tasks[1]]
    assert set(body["items"][0]) == SUMMARY
    assert body["items"][0]["start_time"] == "2026-03-01T12:02:00Z"
    assert Api().get("sagas", {"image_id": "image-1"}).json()["items"][0]["correlation_id"] == tasks[1]
    assert Api().get("sagas", {"task_id": tasks[0].upper(), "status": "STARTED"}).json()["total"] == 1
    assert Api().get("sagas/", {"to_date": "2026-02-28"}).json()["total"] == 0
    assert Api().get("sagas", {"to_date": "2026-03-01", "from_date": "2026-03-01T13:01:00+01:00"}).json()["total"] == 2
    assert Api().get("sagas", {"task_id": "x\x00", "image_id": "'; --"}).json()["total"] == 0
    assert Api().get("sagas", {"offset": str(10**25)}).json()["items"] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "FOO"), ("status", "started"), ("limit", "0"), ("limit", "101"), ("limit", "ten"), ("limit", "1.5"),
        ("offset", "-1"), ("offset", "NaN"), ("from_date", "yesterday"), ("to_date", "2026-13-01"),
        ("to_date", "2026-03-01T99:00"), ("colour", "red"), ("Status", "FAILED"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_reported_by_its_name(name: str, value: str) -> None:
    answer = Api().get("sagas", {name: value})
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == [name]
    assert answer.json()["errors"][name][0]


@pytest.mark.parametrize("path", ["attention", "parked", "quarantine", "publishing", "definitions", "sagas/by-task/x"])
def test_every_list_is_as_strict(path: str) -> None:
    assert Api().get(path, {"limit": "0"}).status_code == 400
    assert Api().get(path, {"nonsense": "1"}).status_code == 400
    assert Api().get(path, {"format": "json"}).status_code == 200


def test_the_detail_of_a_saga() -> None:
    saga = failed()
    body = Api().get(f"sagas/{saga.id}").json()
    assert set(body) == {
        "id", "correlation_id", "saga_type", "status", "steps", "start_time", "end_time", "error_message", "metadata",
        "steps_count", "steps_url", "waiting",
    }  # fmt: skip
    assert body["metadata"]["lanes"] == {
        "known": 1, "open": 0, "processed": 0, "undoing": 1, "undone": 0, "settled": 0
    }  # fmt: skip
    assert body["waiting"]["command"] == "RollbackAnonymization"
    assert body["waiting"]["topic"] == "anonymization-commands"
    assert set(body["steps"][0]) == {
        "id", "saga_id", "step_type", "service", "status", "event_id", "event_type", "entity_id", "metadata",
        "error_message", "timestamp", "compensation_timestamp",
    }  # fmt: skip
    times = [step["timestamp"] for step in body["steps"]]
    assert times == sorted(times)
    assert len(body["steps"]) == body["steps_count"]
    assert body["steps_url"].endswith(f"/api/v1/saga/sagas/{saga.id}/steps")
    assert Api().get(f"sagas/{saga.id}/").json()["id"] == str(saga.id)


def test_bad_and_unknown_ids_have_their_texts() -> None:
    answer = Api().get("sagas/not-a-uuid")
    assert (answer.status_code, answer.json()) == (400, {"detail": "Invalid saga ID format"})
    missing = uuid.uuid4()
    answer = Api().get(f"sagas/{missing}")
    assert (answer.status_code, answer.json()) == (404, {"detail": f"Saga with ID {missing} not found"})
    answer = Api().get("sagas/by-correlation/nobody")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Saga with correlation ID nobody not found"})
    assert Api().get("sagas/by-task/nobody").json() == []
    assert Api().client.get(f"{BASE}no/such/address").status_code == 404


@pytest.mark.parametrize("odd", ["a.b..c", "two words", "x" * 200, "a/b", "a/", "/", "per%cent"])
def test_any_string_is_a_correlation_id(odd: str) -> None:
    task = new_ids(1)[0]
    tell(event("RetrievalStarted", task))
    SagaLog.objects.update(correlation_id=odd)
    for end in ("", "/"):
        answer = Api().get(f"sagas/by-correlation/{quote(odd, safe='')}{end}")
        assert answer.status_code == 200, answer.content
        assert answer.json()["correlation_id"] == odd
    assert Api().get("sagas/by-correlation/a%00b").status_code == 404
    assert Api().get("sagas/by-correlation/a%FFb%0A").status_code == 404


def test_without_the_address_as_it_was_sent_a_slash_at_the_end_may_be_either() -> None:
    task = new_ids(1)[0]
    tell(event("RetrievalStarted", task))
    for known, asked in (("a/b", "a/b"), ("a/b", "a/b/"), ("a/", "a%2F")):
        SagaLog.objects.update(correlation_id=known)
        answer = Api().client.get(f"{BASE}sagas/by-correlation/{asked}")
        assert answer.json()["correlation_id"] == known


def test_the_newest_saga_of_a_correlation_id_is_given() -> None:
    old, new = new_ids(2)
    tell(event("RetrievalStarted", new, seconds=9), event("RetrievalStarted", old))
    SagaLog.objects.update(correlation_id="same")
    assert Api().get("sagas/by-correlation/same").json()["id"] == str(SagaLog.objects.get(key=new).id)


def test_by_task_is_a_bare_list() -> None:
    task, own, image = new_ids(3)
    tell(*retrieval(task, [image]), event("ProcessingStarted", own, image, seconds=9))
    for key in (task, own, task.upper()):
        [item] = Api().get(f"sagas/by-task/{key}", {"limit": 5}).json()
        assert set(item) == SUMMARY
    assert len(Api().get(f"sagas/by-task/{task}/").json()) == 1


def test_the_parts_of_a_saga_are_paged_and_filtered() -> None:
    saga = failed(3)
    api = Api()
    command = Command.objects.filter(name="RollbackAnonymization")[0]
    Attempt.objects.create(command=command, round=1, number=1, started_at=timezone.now(), outcome="published")
    steps = api.get(f"sagas/{saga.id}/steps", {"status": "COMPENSATING", "limit": 2}).json()
    assert (steps["total"], len(steps["items"])) == (6, 2)
    assert api.get(f"sagas/{saga.id}/steps", {"service": "PROCESSING", "entity": command.entity}).json()["total"] == 2
    lanes = api.get(f"sagas/{saga.id}/lanes", {"outcome": "undoing", "failed": "true"}).json()
    assert lanes["total"] == 3
    assert api.get(f"sagas/{saga.id}/lanes", {"failed": "false"}).json()["total"] == 0
    commands = api.get(f"sagas/{saga.id}/commands", {"entity": command.entity, "name": command.name}).json()
    assert commands["items"][0]["attempts"][0]["outcome"] == "published"
    assert commands["items"][0]["body"]["type"] == "RollbackAnonymization"
    events = api.get(f"sagas/{saga.id}/events", {"limit": 2, "offset": 1, "type": "ProcessingFailed"}).json()
    assert (events["total"], len(events["items"])) == (3, 2)
    assert "payload" not in events["items"][0]
    timeline = api.get(f"sagas/{saga.id}/timeline", {"limit": 100}).json()
    assert {entry["kind"] for entry in timeline["items"]} == {"event", "command", "attempt"}
    assert api.get("sagas/x/steps").status_code == 400
    assert api.get(f"sagas/{uuid.uuid4()}/steps").status_code == 404


def test_a_saga_of_thousands_of_steps_is_paged() -> None:
    task, images = new_ids(1)[0], new_ids(1500)
    tell(*retrieval(task, images), *(event("ImageReadyForAnonymization", task, image, seconds=9) for image in images))
    saga = SagaLog.objects.get(key=task)
    body = Api().get(f"sagas/{saga.id}").json()
    assert body["steps_count"] == 3002
    assert len(body["steps"]) == 1000
    page = Api().get(f"sagas/{saga.id}/steps", {"offset": 3000, "limit": 100}).json()
    assert (page["total"], len(page["items"])) == (3002, 2)
    assert Api().get("sagas", {"image_id": images[7]}).json()["total"] == 1


def test_schema_and_docs_are_served_here() -> None:
    client = Api().client
    assert client.get("/api/schema/").status_code == 200
    docs = client.get("/api/docs/").content.decode()
    assert "cdn" not in docs
    assert "swagger" in docs
