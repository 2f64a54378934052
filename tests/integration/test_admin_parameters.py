"""What lists of the admin take: the filters that they declare. Every other parameter is refused, not looked up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db.models import Field, Model
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken

from bridge.models import Event, Quarantined
from sagas.models import Incident, SagaLog
from tests.integration.decided import failed
from tests.integration.test_admin_access import client_of

pytestmark = pytest.mark.django_db

LISTS = sorted(admin.site._registry, key=lambda model: model._meta.label)
LOOKUPS = ("", "__startswith")
# What Django's lists read beside filters, and ours do not.
DJANGOS_OWN = ("_facets", "_popup", "_to_field", "_changelist_filters", "pop", "t", "received_at__year")


UNRELATED = ("operate_saga", "view_payload")


def list_of(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def paths(model: type[Model], depth: int = 2) -> Iterator[str]:
    """Every field that a lookup could name, also across relations."""
    for field in model._meta.get_fields():
        yield field.name
        if isinstance(field, Field):
            yield field.attname
        related = field.related_model
        if depth > 1 and isinstance(related, type):
            yield from (f"{field.name}__{rest}" for rest in paths(related, depth - 1))


def names(model: type[Model]) -> list[str]:
    """Every lookup that is no declared filter, and what JSON columns hold."""
    within = ["payload__error_message", "body__task_id", "properties__kind", "state__facts", "answer__commands__0__id"]
    found = [f"{path}{lookup}" for path in dict.fromkeys([*paths(model), *within]) for lookup in LOOKUPS]
    return [name for name in found if name not in declared(model)]


@pytest.fixture
def root() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    return client


def answer_to(user: User, model: type[Model], name: str) -> int:
    """The status with which a list answers a person who says this parameter: by its view, without making a page."""
    request = RequestFactory().get(list_of(model), {name: "a"})
    request.user = user
    view: Any = admin.site._registry[model]
    try:
        return int(view.list_view(request).status_code)
    except PermissionDenied:
        return 403


@pytest.mark.parametrize("model", LISTS, ids=lambda model: model._meta.label)
def test_no_list_looks_up_what_it_does_not_declare(model: type[Model], root: Client) -> None:
    asked = [*names(model), *DJANGOS_OWN]
    assert len(asked) > 20
    superuser = User.objects.get(username="root")
    assert [name for name in asked if answer_to(superuser, model, name) != 400] == []
    # The address leads to that view.
    assert [name for name in asked[:5] if root.get(list_of(model), {name: "a"}).status_code != 400] == []


@pytest.mark.parametrize("model", LISTS, ids=lambda model: model._meta.label)
def test_who_may_only_see_the_list_learns_no_more_of_it(model: type[Model]) -> None:
    right = "view_sagalog" if model is Incident else f"view_{model._meta.model_name}"
    clients = (client_of("viewer", right), client_of("nobody", *UNRELATED), Client())
    viewer, nobody = User.objects.get(username="viewer"), User.objects.get(username="nobody")
    asked = [f"{name}__contains" for name in dict.fromkeys(paths(model, 1))]
    for name in asked:
        assert (answer_to(viewer, model, name), answer_to(nobody, model, name)) == (400, 403), name
    answers = [client.get(list_of(model), {asked[-1]: "a"}).status_code for client in clients]
    assert answers == [400, 403, 302]


def test_a_payload_cannot_be_guessed_letter_by_letter(root: Client) -> None:
    """The same page for a right guess and a wrong one: it does not depend on the rows at all."""
    failed()
    assert Event.objects.filter(payload__error_message__startswith="disk").exists()
    right, wrong = (
        root.get(list_of(Event), {"payload__error_message__startswith": guess}).content.decode()
        for guess in ("disk", "dusk")
    )
    assert "RetrievalFailed" not in right
    assert strip(right) == strip(wrong)
    assert "Unknown parameter: payload__error_message__startswith." in right


def strip(page: str) -> str:
    """A page without its form token, which is another one each time."""
    return "\n".join(
        line for line in page.splitlines() if "csrf" not in line and "disk" not in line and "dusk" not in line
    )


def test_the_digest_of_a_token_is_not_searched(root: Client) -> None:
    token, _text = AuthToken.objects.create(User.objects.create_user("machine"))
    page = root.get(list_of(AuthToken), {"q": token.digest[:12]}).content.decode()
    assert token.token_key not in page
    assert token.token_key in root.get(list_of(AuthToken), {"q": token.token_key}).content.decode()


@pytest.mark.parametrize("model", LISTS, ids=lambda model: model._meta.label)
def test_what_is_declared_is_taken_and_no_value_of_it_is_a_fault(model: type[Model], root: Client) -> None:
    for name in declared(model):
        assert root.get(list_of(model), {name: "1"}, follow=True).status_code == 200, name
    for name in (*declared(model), "p", "all", "e"):
        for value in ("a\x00b", "9" * 5000, "-1", "'\u202e%"):
            assert root.get(list_of(model), {name: value}).status_code in (200, 302, 400), (name, value)


def declared(model: type[Model]) -> list[str]:
    filters = {
        "bridge.Quarantined": ["status", "code"],
        "compensation.Command": ["status", "service", "exhausted_by", "saga", "q"],
        "sagas.SagaLog": ["status", "age", "type", "set_aside", "by_hand", "q"],
        "sagas.Decision": ["action_taken", "q"],
        "sagas.Parked": ["page", "dismissed"],
        "sagas.Job": ["status"],
        "bridge.Event": ["q"],
        "auth.User": ["is_staff__exact", "is_superuser__exact", "is_active__exact", "groups__id__exact", "q", "o"],
        "auth.Group": ["q", "o"],
        "knox.AuthToken": ["q", "o"],
    }
    return filters.get(model._meta.label, [])


@pytest.mark.parametrize("model", LISTS, ids=lambda model: model._meta.label)
@pytest.mark.parametrize("key", ["1", "14a1869b-0f57-56a5-b1d2-7f84afc64dae", "x"])
def test_an_empty_field_to_find_an_object_by_is_no_fault(model: type[Model], key: str, root: Client) -> None:
    path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[key])
    assert root.get(path, {"_to_field": ""}).status_code < 500
    assert root.post(f"{path}?_to_field=").status_code < 500


@pytest.mark.parametrize("model", LISTS, ids=lambda model: model._meta.label)
def test_no_selection_of_a_list_is_a_fault(model: type[Model], root: Client) -> None:
    for number, key in enumerate(("abc", "", "\x00", "9" * 30, "-1", "00000000-0000-0000-0000-000000000000")):
        for action in ("delete_selected", "retry_chosen", "nothing"):
            said = {"action": action, "_selected_action": [key, "1"], "post": "yes"}
            # What else a form says is read apart from the keys: some of them show what becomes of it.
            for more in ({}, {"index": "9" * 50}, {"select_across": "1"}) if number < 2 else ({},):
                answer = root.post(list_of(model), {**said, **more})
                assert answer.status_code in (200, 302, 400), (said, more)


def test_a_wrong_selection_is_reported(root: Client) -> None:
    page = root.post(
        reverse("admin:compensation_command_changelist"), {"action": "skip_chosen", "_selected_action": "x"}
    )
    assert page.status_code == 400
    assert "No such row: x." in page.content.decode()


def test_a_filter_still_narrows_a_list_down(root: Client) -> None:
    saga, _images = failed()
    page = root.get(list_of(SagaLog), {"status": saga.status}).content.decode()
    assert saga.key in page
    assert saga.key not in root.get(list_of(SagaLog), {"status": "COMPLETED"}).content.decode()
    User.objects.create_user("nina", is_staff=True)
    users = root.get(list_of(User), {"is_staff__exact": "0"}).content.decode()
    assert "nina" not in users
    group = Group.objects.create(name="night shift")
    assert "nina" not in root.get(list_of(User), {"groups__id__exact": group.pk}).content.decode()


def test_the_page_of_a_refusal_shows_what_was_asked_as_text(root: Client) -> None:
    said: dict[str, Any] = {"<script>alert(1)</script>": "x", **{f"p{n}": "x" for n in range(20)}, "z" * 500: "x"}
    Quarantined.objects.create(
        topic="t", message_id="1:1", received_at=timezone.now(), body=b"x", body_hash=b"1", code="not-json", reason="no"
    )
    page = root.get(list_of(Quarantined), said).content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    assert "z" * 100 not in page
