"""Every decision through its form: the preview does nothing, a reason is asked for, pressing twice acts once."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from bridge import event_log
from bridge.models import Event, Quarantined
from compensation.models import Command
from sagas.actions.registry import ACTIONS as ACTION_PAGES
from sagas.applying.apply import run_apply
from sagas.models import Decision, Parked, SagaLog
from tests.integration.decided import incident
from tests.integration.story import event, image_through, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)

SCRIPT = "<script>alert(1)</script>"
# Needs a saga that was set aside, or a stored state that differs: tested where these are made.
ELSEWHERE = {"resume", "replay"}
# Needs a message that can be read by now; this one cannot, and the page must say so.
REFUSED = {"requeue"}


@dataclass
class Story:
    """One saga that failed in a lane, one that runs, a parked event, an unreadable message."""

    failed: SagaLog
    running: SagaLog
    image: str
    parked: Parked
    unreadable: Quarantined
    command: Command


@pytest.fixture
def story() -> Story:
    task, image, other, second, stranger, unknown = new_ids(6)
    goes_on = retrieval(other, [second])[:-1]  # without RetrievalCompleted
    event_log.append(retrieval(task, [image]) + image_through(task, image) + goes_on)
    run_apply()
    event_log.append([event("AnonymizationFailed", task, image, seconds=90, error_message=SCRIPT)])
    event_log.append([event("AnonymizationCompleted", stranger, unknown)])
    run_apply()
    unreadable = Quarantined.objects.create(
        topic="retrieval-started",
        message_id="1:1:0:-1",
        received_at=timezone.now(),
        body=SCRIPT.encode() + b"\x00\xff",
        body_hash=b"1",
        code="not-json",
        reason="<b>not JSON</b>",
    )
    failed = SagaLog.objects.get(key=task)
    return Story(
        failed=failed,
        running=SagaLog.objects.get(key=other),
        image=image,
        parked=Parked.objects.get(),
        unreadable=unreadable,
        command=Command.objects.get(saga_id=failed.id, name="RollbackAnonymization"),
    )


def login(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def ana() -> Client:
    return login(User.objects.create_superuser("ana", "ana@example.org", "x"))


@pytest.fixture
def vera() -> Client:
    """May look at everything but what messages say, and decide on nothing."""
    user = User.objects.create_user("vera", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_").exclude(codename="view_payload"))
    return login(user)


def target(action: str, story: Story) -> dict[str, str]:
    if action in ("requeue", "dismiss_message"):
        return {"message": str(story.unreadable.pk)}
    if action in ("retry", "skip", "mark_done", "withdraw"):
        return {"ids": str(story.command.id)}
    if action == "attach":
        return {"key": story.parked.key, "stream": story.parked.stream, "saga": str(story.running.id)}
    if action in ("adopt", "dismiss"):
        return {"key": story.parked.key, "stream": story.parked.stream}
    if action.endswith("_incident"):
        return {"incident": str(incident().id)}
    images = {"images": "1000"} if action == "close_retrieval" else {}
    return {} if "publishing" in action else {"saga": str(story.running.id), **images}


def address(action: str) -> str:
    return f"{reverse('admin:index')}sagas/decision/decide/{action}/"


@pytest.mark.parametrize("action", sorted(ACTION_PAGES))
def test_the_form_shows_what_would_happen_and_does_nothing(action: str, story: Story, ana: Client) -> None:
    page = ana.get(address(action), target(action, story))
    assert page.status_code == 200
    assert SCRIPT not in page.content.decode()
    assert ana.get(address(action)).status_code == 200  # without a target it asks for one
    assert not Decision.objects.exists()
    assert Parked.objects.count() == 1


@pytest.mark.parametrize("action", ["mark_done", "skip", "withdraw"])
def test_the_page_names_what_is_released_and_does_not_contradict_itself(action: str, story: Story, ana: Client) -> None:
    page = ana.get(address(action), target(action, story)).content.decode()
    assert "1 image deletion that was waiting for this is sent." in page
    assert "Commands that were waiting for them are sent" in page
    assert "Nothing is sent." not in page


@pytest.mark.parametrize("action", sorted(set(ACTION_PAGES) - ELSEWHERE - REFUSED - {"retry"}))
def test_a_reason_is_asked_for_and_a_second_press_acts_once(action: str, story: Story, ana: Client) -> None:
    if action == "resume_publishing":
        _confirm(ana, "pause_publishing", story, reason="stop")
    before = Decision.objects.count()
    told = target(action, story)
    key = _request_key(ana.get(address(action), told).content.decode())
    silent = ana.post(address(action), {**told, "confirm": 1, "request_key": key})
    assert (silent.status_code, Decision.objects.count()) == (400, before)
    pressed = {**told, "confirm": 1, "request_key": key, "reason": "seen by Ana in the service"}
    first = ana.post(address(action), pressed, follow=True)
    assert first.status_code == 200
    made = Decision.objects.order_by("-decided_at")
    assert made[0].reason == "seen by Ana in the service"
    assert (made[0].actor, made[0].door) == ("ana", "admin")
    count = Decision.objects.count()
    second = ana.post(address(action), pressed, follow=True)
    assert "Already requested by ana" in second.content.decode()
    assert Decision.objects.count() == count


@pytest.mark.parametrize("action", ["retry", "requeue"])
def test_what_the_state_forbids_is_reported_in_plain_text(action: str, story: Story, ana: Client) -> None:
    """A command on its way cannot be retried; a message that still cannot be read stays where it is."""
    page = ana.get(address(action), target(action, story)).content.decode()
    assert "Not possible: " in page
    assert 'name="confirm"' not in page
    assert not Decision.objects.exists()


def test_many_commands_are_chosen_in_their_list(story: Story, ana: Client) -> None:
    ids = [str(identity) for identity in Command.objects.values_list("id", flat=True)]
    chosen = {"action": "withdraw_chosen", "_selected_action": ids}
    page = ana.post(reverse("admin:compensation_command_changelist"), chosen)
    assert page.status_code == 200
    assert all(identity in page.content.decode() for identity in ids)


def test_many_sagas_are_closed_from_their_list_and_what_was_refused_is_named(story: Story, ana: Client) -> None:
    ids = [str(story.running.id), str(story.failed.id)]
    SagaLog.objects.filter(id=story.failed.id).update(status="FAILED")
    listed = reverse("admin:sagas_sagalog_changelist")
    page = ana.post(listed, {"action": "close_retrieval_chosen", "_selected_action": ids})
    assert "If empty, each saga is closed with the number of its images that are known." in page.content.decode()
    asked = {"ids": " ".join(ids), "reason": "the clinic says so", "confirm": 1}
    done = ana.post(address("close_retrieval"), asked, follow=True)
    assert done.redirect_chain == [(listed, 302)]
    text = done.content.decode()
    assert "1 of 2 sagas are eligible." in text
    assert f"1 saga was not changed: {story.failed.key} (the saga is FAILED: its retrieval is over)" in text
    assert ana.post(address("close_retrieval"), {"ids": "x", "confirm": 1, "reason": "x"}).status_code == 400
    assert ana.post(address("close_retrieval"), {"confirm": 1, "reason": "x"}).status_code == 400
    too_many = " ".join(new_ids(settings.SAGA_JOB_FROM + 1))
    assert ana.post(address("close_retrieval"), {"ids": too_many, "confirm": 1, "reason": "x"}).status_code == 400


@pytest.mark.parametrize("action", sorted(ACTION_PAGES))
def test_who_may_only_look_decides_nothing(action: str, story: Story, vera: Client) -> None:
    told = target(action, story)
    assert vera.get(address(action), told).status_code == 403
    assert vera.post(address(action), {**told, "confirm": 1, "reason": "x"}).status_code == 403
    assert not Decision.objects.exists()


def test_who_may_only_look_sees_no_button_and_no_bytes(story: Story, vera: Client) -> None:
    saga = vera.get(reverse("admin:sagas_sagalog_change", args=[story.failed.id]))
    assert saga.status_code == 200
    assert "decision/decide/" not in saga.content.decode()
    message = vera.get(reverse("admin:bridge_quarantined_change", args=[story.unreadable.pk]))
    assert message.status_code == 200
    assert "alert(1)" not in message.content.decode()


def test_bytes_are_shown_harmlessly(story: Story, ana: Client) -> None:
    page = ana.get(reverse("admin:bridge_quarantined_change", args=[story.unreadable.pk])).content.decode()
    assert "&lt;script&gt;" in page
    assert SCRIPT not in page
    assert "<b>not JSON</b>" not in page


@pytest.mark.parametrize("said", ["id", "key", "image", "correlation", "event"])
def test_a_saga_is_found_by_every_id_that_people_have(said: str, story: Story, ana: Client) -> None:
    saga = story.failed
    words = {
        "id": str(saga.id),
        "key": saga.key,
        "image": story.image,
        "correlation": saga.correlation_id,
        "event": Event.objects.filter(type="AnonymizationFailed").get().event_id,
    }[said]
    page = ana.get(reverse("admin:sagas_sagalog_changelist"), {"q": words}).content.decode()
    assert str(saga.id) in page
    assert str(story.running.id) not in page


@pytest.mark.parametrize("verb", ["add", "delete"])
def test_there_is_no_address_to_rewrite_history(verb: str, story: Story, ana: Client) -> None:
    base = reverse("admin:sagas_sagalog_changelist")
    path = f"{base}add/" if verb == "add" else f"{base}{story.failed.id}/delete/"
    assert ana.post(path, {"post": "yes"}).status_code in (302, 403, 404)
    assert SagaLog.objects.count() == 2


def test_lists_and_pages_ask_no_more_for_more(story: Story, ana: Client) -> None:
    pages = [reverse("admin:sagas_sagalog_changelist"), reverse("admin:index")]
    few = [_queries(ana, page) for page in pages]
    for _ in range(12):
        task, image = new_ids(2)
        event_log.append(retrieval(task, [image]) + image_through(task, image))
    run_apply()
    assert [_queries(ana, page) for page in pages] == few


def _queries(client: Client, path: str) -> int:
    client.get(path)  # what is cached is cached by now
    with CaptureQueriesContext(connection) as asked:
        assert client.get(path).status_code == 200
    return len(asked)


def _confirm(client: Client, action: str, story: Story, reason: str) -> None:
    told = target(action, story)
    key = _request_key(client.get(address(action), told).content.decode())
    client.post(address(action), {**told, "confirm": 1, "request_key": key, "reason": reason})


def _request_key(page: str) -> str:
    found = re.search(r'name="request_key" value="([^"]+)"', page)
    assert found, "the form carries the key that tells a second press from a second wish"
    return found.group(1)
