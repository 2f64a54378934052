"""What goes wrong in the admin: the status is right, the page in frame and language, and what was typed stays."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.core import signing
from django.core.exceptions import SuspiciousOperation
from django.db import OperationalError, connection
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from bridge import event_log
from compensation.models import Command
from sagas.actions import ActionRequest
from sagas.actions.registry import ACTIONS as ACTION_PAGES
from sagas.admin import form_drafts
from sagas.applying.apply import run_apply
from sagas.models import Decision, Parked, SagaLog
from tests.integration import deciding as actions
from tests.integration.decided import incident, quarantined
from tests.integration.story import event, image_through, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)

TYPED = "Luis looked in the archive: <b>gone</b> since Monday"
SHOWN = html.escape(TYPED)
# Closing an intake has a preview only after its number was typed: tests/integration/test_close_retrieval.py.
ACTIONS = sorted(set(ACTION_PAGES) - {"resume", "replay", "retry", "resume_publishing", "close_retrieval"})


@pytest.fixture
def saga() -> SagaLog:
    task, name, stranger = new_ids(3)
    event_log.append(retrieval(task, [name]) + image_through(task, name)[:3])
    event_log.append([event("AnonymizationFailed", task, name, seconds=90, error_message="no")])
    event_log.append([event("AnonymizationCompleted", stranger, new_ids(1)[0])])
    run_apply()
    return SagaLog.objects.get(key=task)


@pytest.fixture
def ana() -> Client:
    return client_of(User.objects.create_superuser("ana", "ana@example.org", "secret"))


def client_of(user: User, **more: Any) -> Client:
    client = Client(**more)
    client.force_login(user)
    return client


def address(action: str) -> str:
    return reverse("admin:sagas_decision_decide", args=[action])


def target(action: str, saga: SagaLog) -> dict[str, str]:
    parked = Parked.objects.get()
    if action in ("requeue", "dismiss_message"):
        return {"message": str(quarantined().pk)}
    if action in ("skip", "mark_done", "withdraw"):
        return {"ids": str(Command.objects.filter(saga_id=saga.id)[0].id)}
    if action in ("attach", "adopt", "dismiss"):
        more = {"saga": str(saga.id)} if action == "attach" else {}
        return {"key": parked.key, "stream": parked.stream, **more}
    if action.endswith("_incident"):
        return {"incident": str(incident().id)}
    if "publishing" in action:
        return {"service": actions.services()[0]}
    return {"saga": str(saga.id)}


def fields_of(page: str) -> dict[str, str]:
    """What a browser would send of the page's form."""
    form = re.search(r'<form method="post" class="sg-form.*?</form>', page, re.S)
    assert form, "the page has the form"
    found = {}
    for tag in re.findall(r"<input [^>]*>", form.group(0)):
        name, value = re.search(r'name="([^"]+)"', tag), re.search(r'value="([^"]*)"', tag)
        if name:
            found[name.group(1)] = html.unescape(value.group(1)) if value else ""
    for name, text in re.findall(r'<textarea name="([^"]+)"[^>]*>\n?(.*?)</textarea>', form.group(0), re.S):
        found[name] = html.unescape(text)
    for name, options in re.findall(r'<select name="([^"]+)".*?>(.*?)</select>', form.group(0), re.S):
        chosen = re.search(r'value="([^"]*)" selected', options)
        found[name] = html.unescape(chosen.group(1)) if chosen else ""
    return found


# --- what was typed stays ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "   ", "x" * 1001])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_reason_that_is_missing_or_too_long_loses_nothing_else(
    action: str, reason: str, saga: SagaLog, ana: Client
) -> None:
    told = target(action, saga)
    first = ana.get(address(action), told).content.decode()
    answer = ana.post(address(action), {**fields_of(first), "reason": reason, "confirm": "1"})
    page = answer.content.decode()
    assert (answer.status_code, Decision.objects.count()) == (400, 0)
    assert 'name="confirm"' in page
    assert 'id="preview"' in page
    assert 'class="errorlist"' in page
    assert told.items() <= fields_of(page).items()
    assert fields_of(page)["reason"].strip() == reason.strip()
    shown = re.search(r'<dl class="sg-facts">.*?</dl>', page, re.S)
    before = re.search(r'<dl class="sg-facts">.*?</dl>', first, re.S)
    assert shown is not None
    assert before is not None
    assert shown.group(0) == before.group(0), "the target is named as before"


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("ended", ["expired", "logged out"])
def test_after_a_login_the_decision_waits_with_what_was_typed(
    action: str, ended: str, saga: SagaLog, ana: Client
) -> None:
    told = target(action, saga)
    filled = {**fields_of(ana.get(address(action), told).content.decode()), "reason": TYPED, "confirm": "1"}
    if ended == "expired":
        Session.objects.update(expire_date=timezone.now() - timedelta(hours=1))
    else:
        ana.post(reverse("admin:logout"))
    sent_away = ana.post(address(action), filled)
    assert sent_away.status_code == 302
    assert "gone" not in sent_away["location"]
    page = log_in(ana, sent_away["location"], "ana")
    assert Decision.objects.count() == 0, "nothing is carried out automatically"
    assert fields_of(page)["reason"] == TYPED
    assert TYPED not in page
    assert told.items() <= fields_of(page).items()
    assert 'name="confirm"' in page
    assert 'id="preview"' in page
    done = ana.post(address(action), {**fields_of(page), "confirm": "1"})
    assert done.status_code == 302
    assert Decision.objects.get(action=action).reason == TYPED
    assert "gone" not in json.dumps(ana.session.get(form_drafts.IN_SESSION, {})), "what was carried out is not kept"


def log_in(client: Client, location: str, name: str, password: str = "secret") -> str:
    split = urlsplit(location)
    assert split.path == reverse("admin:login")
    said = {"username": name, "password": password, "next": parse_qs(split.query)["next"][0]}
    answer = client.post(location, said, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_as_many_commands_as_a_form_takes_survive_a_login(saga: SagaLog, ana: Client, settings: Any) -> None:
    """Their ids fit in no address."""
    settings.SAGA_JOB_FROM = 5000
    ids = " ".join([*new_ids(settings.SAGA_JOB_FROM - 1), str(Command.objects.filter(saga_id=saga.id)[0].id)])
    listed = ana.post(
        reverse("admin:compensation_command_changelist"),
        {"action": "skip_chosen", "_selected_action": [str(Command.objects.filter(saga_id=saga.id)[0].id)]},
    )
    filled = {**fields_of(listed.content.decode()), "ids": ids, "reason": TYPED, "confirm": "1"}
    Session.objects.all().delete()
    sent_away = ana.post(address("skip"), filled)
    assert len(sent_away["location"]) < 2000
    found = fields_of(log_in(ana, sent_away["location"], "ana"))
    assert (found["ids"], found["reason"]) == (ids, TYPED)


def test_no_one_else_sees_what_was_typed(saga: SagaLog, ana: Client) -> None:
    User.objects.create_superuser("eva", "eva@example.org", "secret")
    told = target("skip", saga)
    filled = {**fields_of(ana.get(address("skip"), told).content.decode()), "reason": TYPED, "confirm": "1"}
    Session.objects.all().delete()
    page = log_in(ana, ana.post(address("skip"), filled)["location"], "eva")
    assert "gone" not in page
    assert told.items() <= fields_of(page).items()


@pytest.mark.parametrize("note", ["", "forged", "of another decision", "too old"])
def test_nothing_is_kept_for_a_form_that_is_not_ours(note: str, saga: SagaLog) -> None:
    """Else anybody could fill the table of sessions, or somebody's form."""
    user = User.objects.create_superuser("ana", "ana@example.org", "secret")
    with mock.patch("time.time", return_value=0 if note == "too old" else 1e12):
        real = signing.dumps([str(user.pk), "skip"], salt=form_drafts.SALT)
    other = signing.dumps([str(user.pk), "withdraw"], salt=form_drafts.SALT)
    said = {"": "", "forged": f"{real}x", "of another decision": other, "too old": real}[note]
    client = Client()
    answer = client.post(address("skip"), {**target("skip", saga), "reason": TYPED, "typed_by": said, "confirm": "1"})
    assert answer.status_code == 302
    assert "kept" not in answer["location"]
    assert not Session.objects.exists()


def test_what_is_kept_is_forgotten_after_an_hour(saga: SagaLog, ana: Client) -> None:
    filled = fields_of(ana.get(address("skip"), target("skip", saga)).content.decode())
    ana.post(reverse("admin:logout"))
    location = ana.post(address("skip"), {**filled, "reason": TYPED, "confirm": "1"})["location"]
    with mock.patch.object(form_drafts, "KEPT_FOR", timedelta(0)):
        assert "gone" not in log_in(ana, location, "ana")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_form_of_an_earlier_login_is_shown_again_with_what_was_typed(action: str, saga: SagaLog) -> None:
    """A login in another tab changes the token: Django answers 403, and the text must not be lost."""
    client = client_of(User.objects.create_superuser("ana", "ana@example.org", "secret"), enforce_csrf_checks=True)
    told = target(action, saga)
    page = client.get(address(action), told).content.decode()
    filled = {**fields_of(page), "csrfmiddlewaretoken": "a" * 64, "reason": TYPED, "confirm": "1"}
    answer = client.post(address(action), filled)
    again = answer.content.decode()
    assert (answer.status_code, Decision.objects.count()) == (403, 0)
    assert fields_of(again)["reason"] == TYPED
    assert told.items() <= fields_of(again).items()
    assert "Nothing was done" in again
    assert 'id="nav-sidebar"' in again or "sg-form" in again
    assert client.post(address(action), {**fields_of(again), "confirm": "1"}).status_code == 302
    assert Decision.objects.get(action=action).reason == TYPED


def test_another_sites_form_is_not_filled_in(saga: SagaLog) -> None:
    client = client_of(User.objects.create_superuser("ana", "ana@example.org", "x"), enforce_csrf_checks=True)
    answer = client.post(address("skip"), {**target("skip", saga), "reason": TYPED, "confirm": "1"})
    assert answer.status_code == 403
    assert "gone" not in answer.content.decode()
    assert "no longer valid" in answer.content.decode()


def test_without_login_and_token_the_text_is_kept_as_well(saga: SagaLog) -> None:
    User.objects.create_superuser("ana", "ana@example.org", "secret")
    client = client_of(User.objects.get(username="ana"), enforce_csrf_checks=True)
    filled = fields_of(client.get(address("skip"), target("skip", saga)).content.decode())
    Session.objects.all().delete()
    client.cookies.pop("csrftoken")
    answer = client.post(address("skip"), {**filled, "reason": TYPED, "confirm": "1"})
    page = answer.content.decode()
    assert answer.status_code == 403
    assert "gone" not in page
    login = html.unescape(re.search(r'href="([^"]+/login/\?next=[^"]+)"', page).group(1))  # type: ignore[union-attr]
    client.handler.enforce_csrf_checks = False
    assert fields_of(log_in(client, login, "ana"))["reason"] == TYPED


# --- pages for what went wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize(("kind", "inside"), [(403, True), (404, True), (404, False), ("csrf", True), ("csrf", False)])
def test_an_error_is_drawn_in_the_frame_and_the_readers_language(
    kind: Any, inside: bool, language: str, saga: SagaLog
) -> None:
    user = User.objects.create_user("vera", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = client_of(user, enforce_csrf_checks=True) if inside else Client(enforce_csrf_checks=True)
    headers = {"accept-language": language}
    top = reverse("admin:index")
    if kind == 403:
        answer = client.get(address("skip"), headers=headers)
    elif kind == 404:
        answer = client.get(f"{top}nowhere/" if inside else "/nowhere/", headers=headers)
    else:
        answer = client.post(address("skip") if inside else reverse("admin:login"), headers=headers)
    page = answer.content.decode()
    assert answer.status_code == (403 if kind == "csrf" else kind)
    assert f'<html lang="{language}"' in page
    assert "sagas/staff.css" in page
    assert (reverse("admin:logout") in page) is inside
    words = {403: ("not decide", "no decidir"), 404: ("does not exist", "no existe"), "csrf": ("no longer", "ya no es")}
    assert words[kind][language == "es"] in page
    assert "CSRF verification failed" not in page


@pytest.mark.parametrize("path", ["/api/v2/nothing", "/api/v1/saga/nothing"])
def test_the_api_answers_in_json(path: str) -> None:
    answer = Client().get(path)
    assert (answer.status_code, answer["content-type"]) == (404, "application/json")
    assert set(answer.json()) == {"detail"}


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize(("error", "status"), [(RuntimeError("boom"), 500), (SuspiciousOperation("odd"), 400)])
def test_a_fault_and_an_unreadable_request_have_their_pages(
    error: Exception, status: int, language: str, ana: Client
) -> None:
    ana.raise_request_exception = False
    with mock.patch("sagas.admin.health.parts", side_effect=error):
        answer = ana.get(reverse("admin:index"), headers={"accept-language": language})
    page = answer.content.decode()
    assert answer.status_code == status
    assert f'<html lang="{language}"' in page
    assert str(error) not in page


@pytest.mark.parametrize("path", ["/admin/", "/admin/nowhere/", "/nowhere"])
def test_the_page_without_a_database_needs_no_database(path: str, ana: Client) -> None:
    ana.raise_request_exception = False
    away = mock.patch(
        "django.db.backends.utils.CursorWrapper.execute", side_effect=OperationalError("10.0.0.7 is away")
    )
    with away:
        answer = ana.get(path)
    assert answer.status_code == 503
    assert "Temporarily unavailable" in answer.content.decode()
    assert "10.0.0.7" not in answer.content.decode()


def test_a_request_for_a_host_that_is_not_ours_has_its_page(ana: Client) -> None:
    with override_settings(ALLOWED_HOSTS=["saga.example.org"]):
        answer = ana.get(reverse("admin:index"), headers={"host": "evil.example.org"})
    assert answer.status_code == 400
    assert "Bad request" in answer.content.decode()


def test_a_server_error_of_the_api_is_json(ana: Client) -> None:
    ana.raise_request_exception = False
    with mock.patch("sagas.queries.attention", side_effect=RuntimeError("boom")):
        answer = ana.get("/api/v1/saga/attention")
    assert (answer.status_code, answer["content-type"]) == (500, "application/json")
    assert "boom" not in answer.content.decode()


# --- 409: who decided what, and what is still possible ----------------------------------------------------------------


def say(action: str, command: Command, who: str) -> None:
    request = ActionRequest(actor=who, door="api", reason="because")
    actions.decide_command(action, command.id, request=request)


@pytest.mark.parametrize("bulk", [False, True])
def test_a_refused_decision_says_who_decided_and_what_is_left(bulk: bool, saga: SagaLog, ana: Client) -> None:
    command = Command.objects.filter(saga_id=saga.id)[0]
    filled = fields_of(ana.get(address("withdraw"), {"ids": str(command.id)}).content.decode())
    if bulk:
        chosen = actions.CommandSelection(saga=saga.id)
        actions.decide_commands("skip", chosen, request=ActionRequest(actor="luis", door="api", reason="because"))
    else:
        say("skip", command, "luis")
    answer = ana.post(address("withdraw"), {**filled, "reason": TYPED, "confirm": "1"})
    page = answer.content.decode()
    # One on many is written down for each saga and for all, which may be two seconds.
    times = Decision.objects.filter(action="skip").values_list("decided_at", flat=True)
    assert answer.status_code == 409
    assert any(f"Not possible: already skipped by luis at {at:%Y-%m-%d %H:%M:%S} UTC." in page for at in times)
    assert "You can still mark it as done." in page
    assert f"{address('mark_done')}?ids={command.id}" in page
    assert 'name="confirm"' not in page
    assert fields_of(page)["reason"] == TYPED


def test_who_forced_or_terminated_a_saga_is_named(saga: SagaLog, ana: Client) -> None:
    filled = fields_of(ana.get(address("cancel"), {"saga": str(saga.id)}).content.decode())
    actions.force_compensation(saga.id, request=ActionRequest(actor="luis", door="api", reason="because"))
    answer = ana.post(address("cancel"), {**filled, "reason": TYPED, "confirm": "1"})
    assert answer.status_code == 409
    assert "compensation was already forced by luis" in answer.content.decode()
    assert f"{address('terminate')}?saga={saga.id}" in answer.content.decode()
    actions.terminate(saga.id, request=ActionRequest(actor="eva", door="api", reason="because"))
    page = ana.get(address("force_compensation"), {"saga": str(saga.id)}).content.decode()
    assert "already terminated by eva" in page


def test_who_dismissed_a_message_or_attached_a_key_is_named(saga: SagaLog, ana: Client) -> None:
    luis = ActionRequest(actor="luis", door="api", reason="because")
    message = quarantined(b"{")
    actions.dismiss_message(message.pk, request=luis)
    page = ana.get(address("dismiss_message"), {"message": str(message.pk)}).content.decode()
    assert "already dismissed by luis" in page
    parked = Parked.objects.get()
    actions.attach(saga_id=saga.id, key=parked.key, request=luis)
    page = ana.get(address("adopt"), {"key": parked.key, "stream": parked.stream}).content.decode()
    assert "already attached by luis" in page or "no unmatched event" in page
    gone = ana.get(reverse("admin:sagas_parked_group"), {"stream": parked.stream, "key": parked.key})
    assert gone.status_code == 404
    assert "Already attached by luis" in gone.content.decode()


# --- a database that cannot answer ------------------------------------------------------------------------------------


def admin_addresses(saga: SagaLog) -> list[str]:
    """The start page, the login, a list and a page of each kind, the page of a decision, and an address of nothing."""
    return [
        *(reverse("admin:index"), reverse("admin:login"), "/admin/nothing/"),
        *(f"/admin/{model}/" for model in ("sagas/sagalog", "compensation/command", "sagas/parked", "bridge/event")),
        reverse("admin:sagas_sagalog_change", args=[saga.id]),
        f"{address('cancel')}?saga={saga.id}",
    ]


def is_in_words(answer: Any, *, title: str = "Temporarily unavailable") -> bool:
    """Whether an answer is the page for a database that cannot answer, and says nothing of the database itself."""
    page = answer.content.decode()
    assert "db.internal" not in page
    assert "Traceback" not in page
    return bool(answer.status_code == 503 and title in page)


def test_a_database_that_is_away_is_a_503_in_plain_text_on_every_page(
    saga: SagaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(User.objects.create_superuser("ana", "a@example.org", "secret"), raise_request_exception=False)
    # As a browser sends the first form of the day.
    stranger = Client(raise_request_exception=False)
    stranger.cookies["sessionid"] = "a" * 32
    monkeypatch.setattr(connection, "ensure_connection", mock.Mock(side_effect=OperationalError("host db.internal")))
    connection.close()
    for path in admin_addresses(saga):
        assert is_in_words(client.get(path)), path
    assert is_in_words(stranger.get(reverse("admin:login")))
    said = {"username": "ana", "password": "secret"}
    assert is_in_words(stranger.post(reverse("admin:login"), said))
    spanish = client.get(reverse("admin:index"), headers={"accept-language": "es"})
    assert is_in_words(spanish, title="No disponible por ahora")
    for path in ("/api/v1/saga/sagas", "/api/v1/saga/nothing"):
        assert set(client.get(path, headers={"accept": "application/json"}).json()) == {"detail"}


def test_a_database_that_takes_no_changes_is_read_and_else_a_503_in_plain_text(saga: SagaLog) -> None:
    client = client_of(User.objects.create_superuser("ana", "a@example.org", "secret"), raise_request_exception=False)
    stranger = Client(raise_request_exception=False)
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        for path in admin_addresses(saga):
            # A preview is the decision itself, rolled back: it writes.
            expected = {503} if "decide" in path else {200, 302, 404}
            answer = client.get(path)
            assert answer.status_code in expected, (path, answer.status_code)
            assert answer.status_code != 503 or "read-only" in answer.content.decode()
        said = {"saga": str(saga.id), "reason": "x", "confirm": "1"}
        refused = client.post(address("cancel"), said)
        entered = stranger.post(reverse("admin:login"), {"username": "ana", "password": "secret"})
        failed = stranger.post(reverse("admin:login"), {"username": "ana", "password": "wrong"})
        unknown = stranger.post(reverse("admin:login"), {"username": "nobody", "password": "wrong"})
        left = client.post(reverse("admin:logout"))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
    for answer in (refused, entered, failed, unknown, left):
        assert is_in_words(answer), answer.content[:300]
        assert "read-only" in answer.content.decode()
    assert not Decision.objects.exists()
