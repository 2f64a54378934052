"""Who may what through the API, what a decision answers, and what pages cost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bridge import event_log
from bridge.models import Quarantined
from compensation import switches
from compensation.models import Command
from sagas.applying.apply import run_apply
from sagas.models import Decision, Parked, SagaLog
from tests.integration.api import BASE, Api, operator, user, viewer
from tests.integration.story import event, image_through, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)


def tell(*facts: Any) -> None:
    event_log.append(list(facts))
    run_apply()


def failed(images: int = 1) -> SagaLog:
    task, *ids = new_ids(images + 1)
    facts = [*retrieval(task, ids), *(fact for image in ids for fact in image_through(task, image)[:5])]
    tell(*facts, *(event("ProcessingFailed", task, image, seconds=60, error_message="no") for image in ids))
    return SagaLog.objects.get(key=task)


def running() -> SagaLog:
    task, image = new_ids(2)
    tell(*retrieval(task, [image]))
    return SagaLog.objects.get(key=task)


def test_in_production_reading_takes_a_login_with_permission(settings: Any) -> None:
    settings.API_OPEN_READS = False
    assert Api().get("sagas").status_code == 401
    assert Api(user("nobody")).get("sagas").status_code == 403
    assert Api(viewer()).get("sagas").status_code == 200
    assert Api(operator()).get("sagas").status_code == 200
    assert Api().client.get("/api/v1/saga/health").status_code == 200


def test_deciding_takes_the_permission_everywhere() -> None:
    path, body = f"sagas/{running().id}/cancel", {"reason": "wrong task"}
    assert Api().post(path, body).status_code == 401
    assert Api(viewer()).post(path, body).status_code == 403
    assert not Decision.objects.exists()
    assert Api(operator()).post(path, body).status_code == 202


def test_payload_is_only_for_those_who_may_see_it() -> None:
    path = f"sagas/{failed().id}/events"
    assert Api().get(path, {"payload": "true"}).status_code == 401
    assert Api(viewer()).get(path, {"payload": "true"}).status_code == 403
    found = Api(user("pia", "view_sagalog", "view_payload")).get(path, {"payload": "true"}).json()["items"]
    assert any(item["payload"].get("error_message") == "no" for item in found)
    assert all("payload" not in item for item in Api(viewer_again()).get(path).json()["items"])


def viewer_again() -> Any:
    return user("victor", "view_sagalog", "view_payload")


def test_a_decision_is_shown_taken_once_and_refused_after() -> None:
    api, saga = Api(operator()), running()
    path = f"sagas/{saga.id}/force-compensation"
    answer = api.post(path, {"dry_run": True})
    assert answer.status_code == 200
    assert [command["name"] for command in answer.json()["commands"]] == ["DeleteRetrievedImage"]
    assert not Command.objects.exists()
    answer = api.post(path, {})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["reason"])
    first = api.post(path, {"reason": "bad scan"}, **{"Idempotency-Key": "k1"})
    assert first.status_code == 202
    assert first.json()["actor"] == "olga"
    again = api.post(path, {"reason": "bad scan"}, **{"Idempotency-Key": "k1"})
    assert again.status_code == 202
    assert again.json()["decision_id"] == first.json()["decision_id"]
    assert again.json()["repeated"] is True
    assert api.post(f"sagas/{saga.id}/cancel", {"reason": "too late"}).status_code == 409
    assert api.post(f"sagas/{saga.id}/resume", {"reason": "why"}).status_code == 409
    assert Decision.objects.count() == 1


def test_bad_requests_are_reported_by_field() -> None:
    api, saga = Api(operator()), running()
    assert list(api.post(f"sagas/{saga.id}/cancel", {"reason": "x", "lanes": 1}).json()["errors"]) == ["lanes"]
    assert api.post("sagas/nonsense/cancel", {"reason": "x"}).json() == {"detail": "Invalid saga ID format"}
    assert api.post("sagas/00000000-0000-0000-0000-000000000000/cancel", {"reason": "x"}).status_code == 404
    assert api.post("commands/00000000-0000-0000-0000-000000000000/skip", {"reason": "x"}).status_code == 404
    assert api.post("commands/x/skip", {"reason": "x"}).status_code == 400
    assert list(api.post("commands/decide", {"action": "retry", "reason": "x"}).json()["errors"]) == ["ids"]
    assert list(api.post("commands/decide", {"action": "eat", "reason": "x"}).json()["errors"]) == ["action"]
    assert api.post("parked/attach", {"saga": str(saga.id), "reason": "x"}).status_code == 400
    assert api.post("parked/adopt", {"key": "nobody", "reason": "x"}).status_code == 404
    assert api.post("publishing", {"paused": True, "service": "NO_ONE", "reason": "x"}).status_code == 404
    assert api.post("quarantine/7/requeue", {"reason": "x"}).status_code == 404
    foreign = {"action": "resume", "ids": [str(uuid4())], "images": 1, "reason": "x"}
    assert list(api.post("sagas/decide", foreign).json()["errors"]) == ["images"]
    assert set(api.post("sagas/decide", {"action": "cancel", "reason": "x"}).json()["errors"]) == {"action", "ids"}
    assert api.post("commands/decide", ["not", "an", "object"]).status_code == 400
    assert api.post(f"sagas/{saga.id}/cancel", {"reason": "a\x00b"}).status_code == 400


def test_commands_are_decided_one_or_many() -> None:
    api, saga = Api(operator()), failed()
    Command.objects.filter(name="RollbackAnonymization").update(
        status="exhausted", settled_at=timezone.now(), next_at=None, exhausted_by="attempts"
    )
    rollback = Command.objects.get(name="RollbackAnonymization")
    assert api.post(f"commands/{rollback.id}/mark-done", {"reason": "done by hand"}).status_code == 202
    assert api.post(f"commands/{rollback.id}/retry", {"reason": "again"}).status_code == 409
    answer = api.post("commands/decide", {"action": "skip", "saga": str(saga.id), "reason": "let it be"})
    assert answer.status_code == 202
    assert answer.json()["effects"]["eligible"] == 1
    saga.refresh_from_db()
    assert saga.status == "FAILED"
    assert api.post(f"sagas/{saga.id}/replay", {}).status_code == 200


def test_publishing_is_paused_and_parked_events_find_a_home() -> None:
    api = Api(operator())
    assert api.post("publishing", {"paused": True, "reason": "stop"}).status_code == 202
    assert api.get("publishing").json()["items"][0]["paused"] is True
    saga, key = running(), new_ids(1)[0]
    tell(event("ProcessingStarted", key, seconds=30))
    lane = saga.lanes.get().entity
    body = {"key": key.upper(), "saga": str(saga.id), "lane": lane, "reason": "its own task"}
    assert api.post("parked/attach", body).status_code == 202
    assert not Parked.objects.exists()


def test_what_is_of_no_one_saga() -> None:
    api, saga, lone = Api(), failed(), new_ids(1)[0]
    tell(event("ProcessingStarted", lone))
    Parked.objects.update(since=timezone.now() - timedelta(hours=1))
    Quarantined.objects.create(
        topic="t", message_id="1", received_at=timezone.now(), body=b"{", body_hash=b"1", code="not-json", reason="no"
    )
    Command.objects.filter(name="RollbackAnonymization").update(
        status="exhausted", settled_at=timezone.now(), next_at=None, exhausted_by="attempts"
    )
    [group] = api.get("parked").json()["items"]
    assert (group["key"], group["count"]) == (lone, 1)
    assert api.get("parked", {"dismissed": "true"}).json()["total"] == 0
    assert api.get("quarantine", {"status": "open"}).json()["items"][0]["code"] == "not-json"
    attention = {item["kind"]: item for item in api.get("attention").json()["items"]}
    assert set(attention) >= {"parked", "exhausted", "quarantined"}
    assert attention["exhausted"]["saga_id"] == str(saga.id)
    definitions = {item["name"]: item for item in api.get("definitions").json()["items"]}
    definition = definitions["image_processing"]
    assert definition["mermaid"].startswith("flowchart")
    assert api.get("definitions/image_processing").json() == definition
    assert api.get("definitions/nothing").status_code == 404


def test_no_page_asks_more_for_more() -> None:
    switches.read()
    small, big = failed(1), failed(10)
    for _ in range(5):
        failed(1)

    def asked(path: str, **query: Any) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert Api().get(path, query).status_code == 200
        return len(queries)

    asked("sagas")
    assert asked("sagas", limit=1) == asked("sagas", limit=12) <= 2
    for part in ("", "/steps", "/lanes", "/commands", "/events", "/timeline"):
        query = {"limit": 100} if part else {}
        assert asked(f"sagas/{small.id}{part}", **query) == asked(f"sagas/{big.id}{part}", **query) <= 10, part
    assert asked("attention", limit=1) == asked("attention", limit=100)


def test_the_browsable_api_has_forms_that_need_no_script() -> None:
    saga = failed()
    failed()
    client = Api(operator()).client

    def page(path: str) -> str:
        return client.get(f"{BASE}{path}", headers={"accept": "text/html"}).content.decode()

    html = page("sagas?limit=1")
    assert "<script" not in html
    assert 'name="task_id"' in html
    assert '<option value="COMPENSATING">' in html
    assert 'rel="next"' in html
    for path in ("", f"sagas/{saga.id}", f"sagas/{saga.id}/timeline", "attention", "definitions", "sagas?status=FOO"):
        assert "Saga service" in page(path), path
    assert 'name="reason"' in page("publishing")
