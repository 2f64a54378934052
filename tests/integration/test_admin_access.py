"""Who may what at every address of the admin: nobody rewrites what happened, nobody reads without a right."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from bridge import event_log
from bridge.models import Event, Quarantined
from compensation.models import Attempt, Command, Switch
from sagas.applying.apply import run_apply
from sagas.models import Decision, Incident, Lane, Parked, SagaEvent, SagaLog, SagaStep
from tests.integration.story import event, image_through, new_ids, retrieval

pytestmark = pytest.mark.django_db(transaction=True)

# Who may see sagas may see incidents.
OTHER_RIGHTS: dict[type[Model], str] = {Incident: "view_sagalog"}
OURS = {"sagas", "compensation", "bridge"}
SHOWN = sorted((model for model in admin.site._registry if model._meta.app_label in OURS), key=lambda m: m._meta.label)
KEPT: tuple[type[Model], ...] = (
    *(Event, Quarantined, Command, Attempt, Switch, Decision, Lane, Parked, SagaEvent, SagaLog, SagaStep),
)


def tell(images: int) -> SagaLog:
    """A saga whose every lane failed and is to be undone."""
    task, *names = new_ids(1 + images)
    event_log.append(retrieval(task, names))
    for name in names:
        event_log.append(image_through(task, name))
        event_log.append([event("ProcessingFailed", task, name, seconds=90, error_message="no")])
    run_apply()
    return SagaLog.objects.get(key=task)


@pytest.fixture
def story() -> SagaLog:
    saga = tell(2)
    event_log.append([event("ProcessingCompleted", *new_ids(1))])
    run_apply()
    Quarantined.objects.create(
        topic="t", message_id="1:1", received_at=timezone.now(), body=b"x", body_hash=b"1", code="not-json", reason="no"
    )
    Switch.objects.get_or_create(service="*", defaults={"paused": False, "changed_at": timezone.now()})
    return saga


def client_of(name: str, *codenames: str) -> Client:
    """Staff with these permissions and no others."""
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def root() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    return client


def list_of(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def everything() -> list[list[tuple[object, ...]]]:
    """All rows as they are, to compare."""
    return [sorted(model._default_manager.values_list(), key=repr) for model in KEPT]


@pytest.mark.parametrize("model", SHOWN, ids=lambda model: model._meta.label)
def test_not_even_a_superuser_adds_changes_or_deletes(model: type[Model], story: SagaLog, root: Client) -> None:
    before = everything()
    row = model._default_manager.first()
    pk = row.pk if row else 1
    said = {"post": "yes", "_save": "Save", "status": "COMPLETED", "reason": "x", "paused": "on"}
    for path in ("add/", f"{pk}/change/", f"{pk}/delete/", f"{pk}/history/"):
        answer = root.post(list_of(model) + path, said)
        assert answer.status_code != 500, path
    chosen = {"action": "delete_selected", "_selected_action": [str(pk)], "post": "yes"}
    root.post(list_of(model), chosen)
    root.post(list_of(model), {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-id": str(pk), **said})
    assert everything() == before


@pytest.mark.parametrize("model", SHOWN, ids=lambda model: model._meta.label)
def test_each_list_and_page_needs_the_right_to_see_it(model: type[Model], story: SagaLog) -> None:
    row = model._default_manager.first()
    paths = [list_of(model), *([f"{list_of(model)}{row.pk}/change/"] if row else [])]
    codename = OTHER_RIGHTS.get(model, f"view_{model._meta.model_name}")
    for path in paths:
        anybody = Client().get(path)
        assert (anybody.status_code, "/login/" in anybody.headers["location"]) == (302, True)
    # A permission of the same shape, for another thing.
    nobody = client_of("nobody", "view_group")
    assert [nobody.get(path).status_code for path in paths] == [403] * len(paths)
    viewer = client_of("viewer", codename)
    assert all(viewer.get(path, follow=True).status_code == 200 for path in paths)


def test_pages_beside_the_rows_need_the_right_too(story: SagaLog) -> None:
    parked = Parked.objects.get()
    lane = story.lanes.first()
    assert lane is not None
    pages = [
        (reverse("admin:sagas_sagalog_lane", args=[story.id]), {"lane": lane.entity}),
        (reverse("admin:sagas_parked_group"), {"stream": parked.stream, "key": parked.key}),
        (reverse("admin:sagas_decision_decide", args=["cancel"]), {"saga": str(story.id)}),
    ]
    nobody = client_of("nobody", "view_group")
    for path, said in pages:
        assert nobody.get(path, said).status_code == 403
        assert Client().get(path, said).status_code == 302


def test_who_has_no_right_sees_no_numbers_on_the_start_page(story: SagaLog) -> None:
    page = client_of("nobody", "view_group").get(reverse("admin:index")).content.decode()
    assert "may log in but not view sagas" in page
    assert story.key not in page


def test_who_logs_in_but_is_no_staff_stays_outside(story: SagaLog) -> None:
    client = Client()
    client.force_login(User.objects.create_user("guest"))
    assert client.get(list_of(SagaLog)).status_code == 302


def test_a_forged_form_of_another_site_decides_nothing(story: SagaLog) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("ana", "ana@example.org", "x"))
    path = reverse("admin:sagas_decision_decide", args=["force_compensation"])
    answer = client.post(path, {"saga": str(story.id), "reason": "x", "confirm": 1})
    assert (answer.status_code, Decision.objects.count()) == (403, 0)


def test_a_sagas_page_asks_no_more_for_a_larger_saga(root: Client) -> None:
    small, large = tell(2), tell(24)
    page = "admin:sagas_sagalog_change"
    assert queries_of(root, reverse(page, args=[large.id])) <= queries_of(root, reverse(page, args=[small.id]))


@pytest.mark.parametrize("model", SHOWN, ids=lambda model: model._meta.label)
def test_a_list_asks_no_more_for_more_rows(model: type[Model], story: SagaLog, root: Client) -> None:
    few = queries_of(root, list_of(model))
    for _ in range(4):
        tell(3)
    assert queries_of(root, list_of(model)) == few


def queries_of(client: Client, path: str) -> int:
    client.get(path)  # what is cached is cached by now
    with CaptureQueriesContext(connection) as asked:
        assert client.get(path).status_code == 200
    return len(asked)
