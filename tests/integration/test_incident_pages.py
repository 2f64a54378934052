"""Incidents at every entry point: start page, pages of incidents, lists of exactly their cases, API, command."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import translation

from bridge import clock, event_log
from bridge.models import Quarantined
from compensation import outbox
from compensation.models import Breaker, Command, CommandStatus
from sagas import incidents
from sagas.admin.incident import trend
from sagas.models import Decision, Incident, IncidentNote, Job, Parked, SagaLog
from tests.integration import decided
from tests.integration.api import Api
from tests.integration.bridge_messages import rejected
from tests.integration.commands import new_command
from tests.integration.terminal import run
from tests.integration.test_incidents import fail, late_lane, one

pytestmark = pytest.mark.django_db

START = "/admin/"


def user(name: str, *codenames: str) -> User:
    made = User.objects.create_user(name, is_staff=True)
    made.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return made


def client_of(who: User) -> Client:
    client = Client()
    client.force_login(who)
    return client


@pytest.fixture
def ana() -> User:
    return User.objects.create_superuser("ana", "ana@example.org", "x")


@pytest.fixture
def staff(ana: User) -> Client:
    return client_of(ana)


@pytest.fixture
def viewer() -> User:
    return user("viewer", "view_sagalog", "view_command")


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    cache.clear()


def text_of(client: Client, address: str, **headers: str) -> str:
    answer = client.get(address, headers=headers)
    assert answer.status_code == 200, (address, answer.status_code)
    return answer.content.decode()


def ids_in(form: str) -> set[str]:
    [found] = re.findall(r'name="ids" value="([^"]*)"', form)
    return set(found.split())


# --- the start page ---------------------------------------------------------------------------------------------------


def test_all_clear(staff: Client) -> None:
    page = text_of(staff, START)
    assert "All clear: nothing needs attention" in page
    assert "<title>" in page
    assert not re.search(r"<title>\s*\(\d", page)
    assert "Updated at" in page


def test_the_start_page_shows_incidents_and_the_tab_counts_them(staff: Client) -> None:
    fail(12, sagas=7)
    event_log.store_batch([], [rejected()])
    page = text_of(staff, START)
    assert "Data Retrieval refuses DeleteRetrievedImage" in page
    assert "12 commands in 7 sagas" in page
    assert "rising" in page
    assert page.index("sg-incident-bad") < page.index("sg-incident-warn")
    assert re.search(r"<title>\s*\(2\) ", page)
    assert page.count('class="sg-trend"') >= 2
    assert "All clear" not in page


def test_the_tiles_tell_what_the_last_hour_brought(staff: Client) -> None:
    decided.completed()
    page = text_of(staff, START)
    for text in (
        "events in the last whole minute",
        "sagas ended",
        "events stored and not applied yet",
        "Sagas by status",
    ):
        assert text in page


def test_the_script_is_optional_and_of_this_origin(staff: Client) -> None:
    page = text_of(staff, START)
    assert re.search(r'<script src="/static/sagas/refresh[^"]*\.js" defer></script>', page)
    assert 'data-refresh="incidents"' in page


def test_a_text_of_a_service_is_shown_with_the_right_to_see_payload_only(ana: User, viewer: User) -> None:
    fail(1, "<b>Anna's</b> scan")
    page = text_of(client_of(viewer), START)
    assert "Anna" not in page
    assert "[text, 18 characters]" in page
    page = text_of(client_of(ana), START)
    assert "&lt;b&gt;Anna" in page
    assert "<b>Anna" not in page


def test_a_viewer_sees_incidents_and_no_button(viewer: User) -> None:
    fail(1)
    page = text_of(client_of(viewer), START)
    assert "refuses DeleteRetrievedImage" in page
    assert "/decide/" not in page
    assert "incident=" in page


def test_kinds_need_the_rights_of_their_rows(viewer: User) -> None:
    event_log.store_batch([], [rejected()])
    assert "All clear" in text_of(client_of(viewer), START)
    identity = one("quarantined").id
    assert client_of(viewer).get(reverse("admin:sagas_incident_change", args=[identity])).status_code == 404


def test_each_item_is_still_listed(staff: Client) -> None:
    fail(2, sagas=2)
    page = text_of(staff, f"{START}?kind=all")
    line = ">: 1 command of saga"  # the name of its link
    assert page.count(line) == 2
    assert text_of(staff, f"{START}?kind=exhausted").count(line) == 2


def queries_of(client: Client) -> int:
    cache.clear()
    with CaptureQueriesContext(connection) as captured:
        text_of(client, START)
    return len(captured)


def test_the_queries_of_the_start_page_do_not_grow(staff: Client) -> None:
    def more(count: int) -> None:
        for text in ("locked", "full", "gone", "busy")[:count]:
            fail(count, text)
            event_log.store_batch([], [rejected(f"{text} {number}".encode()) for number in range(count)])
        decided.parked()
        Parked.objects.update(since=clock.now() - timedelta(minutes=6))

    more(1)
    incidents.record()
    text_of(staff, START)
    few = queries_of(staff)
    more(4)
    incidents.record()
    assert queries_of(staff) == few


# --- buttons lead to exactly these ------------------------------------------------------------------------------------


def test_the_buttons_of_failed_commands_decide_on_exactly_these(settings: Any, staff: Client) -> None:
    _saga, commands = decided.exhausted(settings, images=3)
    fail(2, "disk is full")
    shown = next(line for line in incidents.listed().items if line.count == 3)
    page = text_of(staff, START)
    for action in ("retry", "mark_done"):
        address = reverse("admin:sagas_incident_decide", args=[shown.id, action])
        assert address in page
        assert ids_in(text_of(staff, address)) == {str(command.id) for command in commands}
    pause = f"{reverse('admin:sagas_decision_decide', args=['pause_publishing'])}?service=DATA_RETRIEVAL"
    assert pause in page
    form = text_of(staff, reverse("admin:sagas_incident_decide", args=[shown.id, "retry"]))
    key = re.search(r'name="request_key" value="([^"]*)"', form)
    assert key is not None
    data = {"ids": " ".join(ids_in(form)), "reason": "back", "request_key": key[1], "confirm": "yes"}
    answer = staff.post(reverse("admin:sagas_decision_decide", args=["retry"]), data)
    assert answer.status_code == 302
    assert [line.count for line in incidents.listed().items] == [2]


def test_a_failure_that_no_retry_helps_offers_none(staff: Client) -> None:
    fail(1, exhausted_by="manual", last_error="no-confirmation", last_error_data=None)
    page = text_of(staff, START)
    assert "does not confirm" in page
    assert "Retry all" not in page
    assert "Mark as done" in page


def test_what_a_page_of_a_decision_refuses(staff: Client, viewer: User, settings: Any) -> None:
    fail(3)
    shown = one("exhausted")
    address = reverse("admin:sagas_incident_decide", args=[shown.id, "retry"])
    assert client_of(viewer).get(address).status_code == 403
    assert staff.get(reverse("admin:sagas_incident_decide", args=[shown.id, "terminate"])).status_code == 404
    assert staff.get(reverse("admin:sagas_incident_decide", args=[uuid4(), "retry"])).status_code == 404
    settings.SAGA_JOB_FROM = 2
    answer = staff.get(address)
    job = Job.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, reverse("admin:sagas_job_change", args=[job.id]))
    assert (job.action, job.total, job.selection) == ("retry", 3, {"filter": {"incident": str(shown.id)}})
    incidents.record()
    Command.objects.update(status=CommandStatus.SKIPPED)
    answer = staff.get(address)
    assert (answer.status_code, answer["Location"]) == (302, reverse("admin:sagas_incident_change", args=[shown.id]))


def listed_ids(client: Client, address: str) -> set[str]:
    """The ids that a list would choose."""
    return set(re.findall(r'name="_selected_action" value="([^"]+)"', text_of(client, address)))


def test_the_list_of_commands_shows_exactly_the_cases(staff: Client) -> None:
    rows = fail(3)
    fail(2, "full")
    shown = next(line for line in incidents.listed().items if line.count == 3)
    address = f"{reverse('admin:compensation_command_changelist')}?status=exhausted&incident={shown.id}"
    assert address.replace("&", "&amp;") in text_of(staff, START)
    assert listed_ids(staff, address) == {str(row.id) for row in rows}
    for other in (uuid4(), "nonsense"):
        assert listed_ids(staff, f"{reverse('admin:compensation_command_changelist')}?incident={other}") == set()
    assert listed_ids(staff, f"{reverse('admin:sagas_sagalog_changelist')}?incident={shown.id}") == set()


def test_the_lists_of_sagas_messages_and_unmatched_events_show_exactly_the_cases(staff: Client) -> None:
    lane = late_lane()
    decided.running()
    shown = one("late_stage")
    assert listed_ids(staff, f"{reverse('admin:sagas_sagalog_changelist')}?incident={shown.id}") == {str(lane.saga_id)}
    event_log.store_batch([], [rejected()])
    decided.quarantined()
    shown = next(line for line in incidents.listed(kind="quarantined").items if line.facets["topic"] == "orders")
    address = f"{reverse('admin:bridge_quarantined_changelist')}?incident={shown.id}"
    row = Quarantined.objects.get(topic="orders")
    page = text_of(staff, address)
    assert reverse("admin:bridge_quarantined_change", args=[row.pk]) in page
    other = Quarantined.objects.exclude(pk=row.pk).get()
    assert reverse("admin:bridge_quarantined_change", args=[other.pk]) not in page
    key, _events = decided.parked(("ProcessingStarted",))
    unlike, _events = decided.parked(("ProcessingCompleted",))
    Parked.objects.update(since=clock.now() - timedelta(minutes=6))
    shown = next(line for line in incidents.listed(kind="parked").items if line.facets["type"] == "ProcessingStarted")
    page = text_of(staff, f"{reverse('admin:sagas_parked_changelist')}?incident={shown.id}")
    assert key in page
    assert unlike not in page
    page = text_of(staff, f"{reverse('admin:sagas_parked_changelist')}?incident={uuid4()}")
    assert key not in page


def test_blocked_sagas_are_resumed_together(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    saga = decided.set_aside(monkeypatch)
    monkeypatch.undo()
    shown = one("set_aside")
    address = reverse("admin:sagas_incident_decide", args=[shown.id, "resume"])
    assert address in text_of(staff, START)
    assert ids_in(text_of(staff, address)) == {str(saga.id)}


def test_a_breaker_is_resumed_from_its_incident(staff: Client) -> None:
    outbox.plan([new_command()])
    numbers = {"cause": "planned", "planned": 9, "allowed": 5}
    service = Command.objects.get().service
    Breaker.objects.create(service=service, state="open", changed_at=clock.now(), changed_by="", **numbers)
    page = text_of(staff, START)
    resume = reverse("admin:sagas_decision_decide", args=["resume_publishing"])
    assert f"{resume}?service={service}&amp;only=breaker" in page


# --- the page of an incident ------------------------------------------------------------------------------------------


def post(client: Client, action: str, **fields: Any) -> Any:
    return client.post(reverse("admin:sagas_decision_decide", args=[action]), {"confirm": "yes", **fields})


def test_owner_note_and_acknowledgement_are_written_and_shown(staff: Client) -> None:
    User.objects.create_user("bo")
    fail(1)
    identity = one("exhausted").id
    page = reverse("admin:sagas_incident_change", args=[identity])
    for action in ("acknowledge_incident", "assign_incident", "note_incident"):
        link = f"{reverse('admin:sagas_decision_decide', args=[action])}?incident={identity}"
        assert link in text_of(staff, page)
        assert str(identity) in text_of(staff, link)
    assert post(staff, "assign_incident", incident=identity, owner="bo", reason="on call")["Location"] == page
    post(staff, "note_incident", incident=identity, reason="<i>called</i> them")
    until = clock.now() + timedelta(hours=2)
    post(staff, "acknowledge_incident", incident=identity, until=f"{until:%Y-%m-%d %H:%M:%S}", reason="they repair it")
    for address in (page, START):
        shown = text_of(staff, address)
        assert "bo" in shown
        assert "they repair it" in shown
        assert f"{until:%Y-%m-%d %H:%M}" in shown
    shown = text_of(staff, page)
    assert "&lt;i&gt;called&lt;/i&gt; them" in shown
    assert shown.index("they repair it") < shown.index("on call")
    assert not re.search(r"<title>\s*\(", text_of(staff, START))
    assert Decision.objects.filter(door="admin", actor="ana").count() == 3


def test_an_unknown_incident_an_unknown_login_and_a_past_time_are_refused(staff: Client) -> None:
    fail(1)
    identity = one("exhausted").id
    assert post(staff, "note_incident", incident=uuid4(), reason="x").status_code == 400
    assert (
        "no active login nobody" in post(staff, "assign_incident", incident=identity, owner="nobody", reason="x").text
    )
    answer = post(staff, "acknowledge_incident", incident=identity, until="2020-01-01 12:00", reason="x")
    assert answer.status_code == 400
    assert post(staff, "note_incident", incident=identity, reason=" ").status_code == 400
    assert not IncidentNote.objects.exists()


def test_an_incident_that_has_ended_keeps_its_page(staff: Client) -> None:
    fail(2)
    incidents.record()
    identity = one("exhausted").id
    Command.objects.update(status=CommandStatus.SKIPPED)
    incidents.record()
    page = text_of(staff, reverse("admin:sagas_incident_change", args=[identity]))
    assert "It has ended" in page
    assert "acknowledge_incident" not in page
    assert "note_incident" in page
    assert str(identity) in text_of(staff, reverse("admin:sagas_incident_changelist"))
    assert staff.get(reverse("admin:sagas_incident_change", args=[uuid4()])).status_code == 404


def test_in_spanish(staff: Client) -> None:
    fail(3)
    event_log.store_batch([], [rejected()])
    page = text_of(staff, START, **{"accept-language": "es"})
    assert "Data Retrieval rechaza DeleteRetrievedImage" in page
    assert "3 comandos en 3 sagas" in page
    for english in ("refuses", "Incidents", "rising", "Updated at", "last whole minute", "Retry all"):
        assert english not in page


def test_the_trend_is_a_drawing_with_a_text() -> None:
    assert trend(()) == ""
    with translation.override("en"):
        drawn = trend((0, 1, 4))
    assert "<title>5 in the last hour</title>" in drawn
    assert 'points="0.0,23.0 60.0,17.5 120.0,1.0"' in drawn
    assert "nan" not in trend((0, 0))


# --- the API ----------------------------------------------------------------------------------------------------------


def test_the_api_lists_incidents_and_shows_one(ana: User) -> None:
    rows = fail(3, "Anna's scan")
    event_log.store_batch([], [rejected()])
    answer = Api(ana).get("incidents").json()
    assert (answer["total"], answer["offset"], answer["limit"]) == (2, 0, 20)
    [first, second] = answer["items"]
    assert (first["kind"], first["red"], first["count"], first["sagas"]) == ("exhausted", True, 3, 3)
    assert (second["kind"], second["red"]) == ("quarantined", False)
    assert sum(first["trend"]) == 3
    assert "Anna's scan" in first["error"]
    detail = Api(ana).get(f"incidents/{first['id']}").json()
    assert detail["cases_are"] == "commands"
    assert set(detail["cases"]) == {str(row.id) for row in rows}
    assert detail["notes"] == []
    assert Api(ana).get("incidents", {"kind": "quarantined"}).json()["total"] == 1
    assert Api(ana).get("incidents", {"ended": "true"}).json()["items"] == []
    assert Api(ana).get("incidents", {"limit": 1, "offset": 1}).json()["items"][0]["id"] == second["id"]


def test_the_api_refuses_what_it_does_not_know(ana: User) -> None:
    assert Api(ana).get("incidents/nonsense").status_code == 400
    assert Api(ana).get(f"incidents/{uuid4()}").status_code == 404
    assert Api(ana).get("incidents", {"kind": "foo"}).status_code == 400
    assert Api(ana).get("incidents", {"limit": "0"}).status_code == 400
    assert Api(ana).post(f"incidents/{uuid4()}/note", {"reason": "x"}).status_code == 404
    assert Api(ana).post("incidents/nonsense/note", {"reason": "x"}).status_code == 400


def test_the_api_acknowledges_assigns_and_notes(ana: User) -> None:
    fail(1)
    address = f"incidents/{one('exhausted').id}"
    until = "2099-01-01T12:00:00Z"
    api = Api(ana)
    assert api.post(f"{address}/acknowledge", {"until": until, "reason": "x", "dry_run": True}).status_code == 200
    assert not IncidentNote.objects.exists()
    answer = api.post(f"{address}/acknowledge", {"until": until, "reason": "they repair it"})
    assert answer.status_code == 202
    assert answer.json()["effects"] == {"acknowledged_until": until}
    assert api.post(f"{address}/assign", {"owner": "ana", "reason": "mine"}).status_code == 202
    assert api.post(f"{address}/note", {"reason": "called"}).status_code == 202
    assert api.post(f"{address}/note", {}).status_code == 400
    detail = api.get(address).json()
    assert (detail["owner"], detail["acknowledged_by"], detail["acknowledged_until"]) == ("ana", "ana", until)
    assert [note["text"] for note in detail["notes"]] == ["called", "mine", "they repair it"]
    assert detail["note"]["text"] == "called"
    Command.objects.update(status=CommandStatus.SKIPPED)
    incidents.record()
    assert api.post(f"{address}/acknowledge", {"until": until, "reason": "x"}).status_code == 409
    [gone] = api.get("incidents", {"ended": "true"}).json()["items"]
    assert gone["ended_at"] is not None


def test_a_viewer_reads_masked_and_decides_nothing(viewer: User, settings: Any) -> None:
    settings.API_OPEN_READS = False
    fail(1, "Anna's scan")
    event_log.store_batch([], [rejected()])
    hidden = one("quarantined").id
    answer = Api(viewer).get("incidents").json()
    assert [line["kind"] for line in answer["items"]] == ["exhausted"]
    assert "Anna" not in json.dumps(answer)
    address = f"incidents/{answer['items'][0]['id']}"
    assert "Anna" not in Api(viewer).get(address).text
    for action in ("acknowledge", "assign", "note"):
        assert Api(viewer).post(f"{address}/{action}", {"reason": "x"}).status_code == 403
    assert Api(viewer).get(f"incidents/{hidden}").status_code == 404
    assert not Incident.objects.exists()


def test_the_attention_list_of_the_api_is_as_before(ana: User) -> None:
    lane = late_lane()
    assert SagaLog.objects.filter(id=lane.saga_id).exists()
    fail(2, sagas=2)
    items = Api(ana).get("attention").json()["items"]
    assert [item["kind"] for item in items] == ["exhausted", "exhausted"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_lists_shows_and_decides() -> None:
    rows = fail(3, "Anna's scan")
    listed = run("incidents")
    assert listed.code == 0
    assert "Data Retrieval refuses DeleteRetrievedImage" in listed.out
    assert "Anna" not in listed.out
    assert "Anna" in run("incidents", "--payload").out
    identity = str(one("exhausted").id)
    assert run("incidents", "--ids").out.split() == [identity]
    assert set(run("incidents", identity, "--ids").out.split()) == {str(row.id) for row in rows}
    noted = run("note_incident", identity, "--reason", "called", "--yes")
    assert noted.code == 0, noted
    assert run("acknowledge_incident", identity, "--until", "2099-01-01", "--reason", "x", "--yes").code == 0
    assert run("assign_incident", identity, "--owner", "nobody", "--reason", "x", "--yes").code == 2
    shown = run("incidents", identity).out
    assert "called" in shown
    data = json.loads(run("incidents", identity, "--json").out)
    assert [note["text"] for note in data["notes"]] == ["x", "called"]
    assert json.loads(run("incidents", "--json").out)["items"][0]["count"] == 3
    assert run("incidents", "nonsense").code == 3
    assert run("note_incident", "nonsense", "--reason", "x", "--yes").code == 3
    assert run("incidents", "--limit", "0").code == 2
    assert run("incidents", "--ended", "--kind", "held").code == 2
