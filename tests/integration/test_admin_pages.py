"""Every page of the admin opens, for those who may read, and none of the history can be edited there."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import reverse

from bridge import event_log
from sagas.applying.apply import run_apply
from sagas.models import Decision, SagaLog
from tests.integration.deciding import ActionRequest, cancel
from tests.integration.story import event, image_through, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)

OURS = ("sagas", "compensation", "bridge")


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    return client


def tell_stories() -> SagaLog:
    task, image, stranger = new_ids(3)
    event_log.append(retrieval(task, [image]) + image_through(task, image))
    event_log.append([event("ProcessingFailed", task, image, seconds=90, error_message="<b>no</b>")])
    event_log.append([event("ProcessingCompleted", stranger)])
    run_apply()
    return SagaLog.objects.get(key=task)


def test_every_list_opens(staff: Client) -> None:
    tell_stories()
    assert staff.get(reverse("admin:index")).status_code == 200
    for model in admin.site._registry:
        address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        assert staff.get(address).status_code == 200, address


def test_a_sagas_page_shows_its_story_harmlessly(staff: Client) -> None:
    saga = tell_stories()
    page = staff.get(reverse("admin:sagas_sagalog_change", args=[saga.id]))
    assert page.status_code == 200
    text = page.content.decode()
    assert "RollbackAnonymization" in text
    assert "<b>no</b>" not in text


def test_the_list_of_sagas_shows_the_status_and_not_the_engines_state(staff: Client) -> None:
    tell_stories()
    text = staff.get(reverse("admin:sagas_sagalog_changelist")).content.decode()
    assert "sg-badge" in text
    assert "intake_over" not in text


def test_a_decision_names_its_actor_and_its_entry_point_apart(staff: Client) -> None:
    saga = tell_stories()
    cancel(saga.id, request=ActionRequest(actor="admin", door="admin", reason="because"))
    decision = Decision.objects.get()
    for language, word in (("en", "via"), ("es", "vía")):
        headers = {"accept-language": language}
        listed = staff.get(reverse("admin:sagas_decision_changelist"), headers=headers).content.decode()
        heads = [re.sub(r"<[^>]*>|\s+", "", head) for head in re.findall(r"<th\b.*?</th>", listed, re.DOTALL)]
        assert word.capitalize() in heads
        page = staff.get(reverse("admin:sagas_decision_change", args=[decision.id]), headers=headers).content.decode()
        assert f"admin {word} admin" in page


def test_no_history_can_be_edited(staff: Client) -> None:
    request = RequestFactory().get("/")
    request.user = User.objects.get(username="ana")
    for model, page in admin.site._registry.items():
        if model._meta.app_label in OURS:
            assert not page.has_add_permission(request), model
            assert not page.has_change_permission(request), model
            assert not page.has_delete_permission(request), model


def test_the_admin_asks_for_a_login() -> None:
    assert Client().get(reverse("admin:index")).status_code == 302


def test_the_start_page_speaks_spanish(staff: Client) -> None:
    tell_stories()
    page = staff.get(reverse("admin:index"), headers={"accept-language": "es"}).content.decode()
    assert "Requiere atención" in page
    assert "Eventos sin asignar" in page


def test_the_way_back_names_the_list_and_the_row(staff: Client) -> None:
    saga = tell_stories()
    top = reverse("admin:sagas_sagalog_change", args=[saga.id])
    page = staff.get(top).content.decode()
    assert f'<a href="{reverse("admin:sagas_sagalog_changelist")}">Sagas</a>' in page
    lane = staff.get(reverse("admin:sagas_sagalog_lane", args=[saga.id]), {"lane": saga.lanes.get().entity})
    assert f'<a href="{top}">{saga.key}</a>' in lane.content.decode()
