"""Who may change users or groups gets no further by it: neither they themselves, nor through another's login."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

pytestmark = pytest.mark.django_db

MANAGER = ("add_user", "change_user", "view_user", "delete_user", "add_group", "change_group", "view_group")
PASSWORD = "a-long-enough-pass-phrase-9"


def permission(codename: str) -> Permission:
    return Permission.objects.get(codename=codename)


@pytest.fixture
def manager() -> User:
    """Staff who manage logins, may see sagas, and nothing else."""
    user = User.objects.create_user("mara", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=[*MANAGER, "view_sagalog"]))
    return user


@pytest.fixture
def client(manager: User) -> Client:
    client = Client()
    client.force_login(manager)
    return client


def page_of(user: User, *, password: bool = False) -> str:
    if password:
        return reverse("admin:auth_user_password_change", args=[user.pk])
    return reverse("admin:auth_user_change", args=[user.pk])


def said(user: User, **more: Any) -> dict[str, Any]:
    """What the form of a login sends."""
    dates = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    held = list(user.user_permissions.values_list("pk", flat=True))
    return {"username": user.username, "is_active": "on", "user_permissions": held, **dates, **more}


def rights(user: User) -> set[str]:
    return User.objects.get(pk=user.pk).get_all_permissions()


@pytest.mark.parametrize("flag", ["is_superuser", "is_staff"])
def test_no_one_but_a_superuser_sets_the_flags(flag: str, manager: User, client: Client) -> None:
    guest = User.objects.create_user("guest")
    for user in (manager, guest):
        before = getattr(user, flag)
        assert client.post(page_of(user), said(user, **{flag: "on"})).status_code in (200, 302)
        assert getattr(User.objects.get(pk=user.pk), flag) is before
    client.post(
        reverse("admin:auth_user_add"), {"username": "new", "password1": PASSWORD, "password2": PASSWORD, flag: "on"}
    )
    assert getattr(User.objects.get(username="new"), flag) is False


def test_no_one_hands_out_rights_beyond_their_own(manager: User, client: Client) -> None:
    guest = User.objects.create_user("guest")
    mighty = Group.objects.create(name="mighty")
    mighty.permissions.set([permission("operate_saga")])
    for user in (manager, guest):
        before = rights(user)
        for more in ({"user_permissions": [permission("operate_saga").pk]}, {"groups": [mighty.pk]}):
            answer = client.post(page_of(user), said(user, **more))
            assert answer.status_code == 200
            assert "is not one of the available choices" in answer.content.decode()
        assert rights(user) == before


def test_rights_of_ones_own_are_handed_out(client: Client) -> None:
    guest = User.objects.create_user("guest")
    readers = Group.objects.create(name="readers")
    readers.permissions.set([permission("view_sagalog")])
    more = {"user_permissions": [permission("view_sagalog").pk], "groups": [readers.pk]}
    assert client.post(page_of(guest), said(guest, **more)).status_code == 302
    assert rights(guest) == {"sagas.view_sagalog"}
    assert list(guest.groups.all()) == [readers]


@pytest.mark.parametrize("mightier", ["superuser", "right", "group"])
def test_no_one_touches_a_login_that_holds_more(mightier: str, client: Client) -> None:
    other = User.objects.create_user("other", password="old", is_staff=True, is_superuser=mightier == "superuser")
    if mightier == "right":
        other.user_permissions.set([permission("operate_saga")])
    if mightier == "group":
        group = Group.objects.create(name="mighty")
        group.permissions.set([permission("operate_saga")])
        other.groups.set([group])
    new = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    assert client.get(page_of(other, password=True)).status_code == 403
    assert client.post(page_of(other, password=True), new).status_code == 403
    assert client.get(page_of(other)).status_code == 200  # to read
    assert client.post(page_of(other), said(other, username="mine", email="me@example.org")).status_code == 403
    assert client.post(reverse("admin:auth_user_delete", args=[other.pk]), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [str(other.pk)], "post": "yes"}
    client.post(reverse("admin:auth_user_changelist"), chosen)
    found = User.objects.get(pk=other.pk)
    assert (found.username, found.email, found.check_password("old")) == ("other", "", True)


def test_the_password_of_an_equal_is_set_again(client: Client) -> None:
    guest = User.objects.create_user("guest", password="old")
    new = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    assert client.post(page_of(guest, password=True), new).status_code == 302
    assert User.objects.get(pk=guest.pk).check_password(PASSWORD)


def test_a_group_takes_rights_of_ones_own_alone(manager: User, client: Client) -> None:
    own = Group.objects.create(name="mine")
    manager.groups.set([own])
    page = reverse("admin:auth_group_change", args=[own.pk])
    for path in (page, reverse("admin:auth_group_add")):
        answer = client.post(path, {"name": "better", "permissions": [permission("view_payload").pk]})
        assert "is not one of the available choices" in answer.content.decode()
    assert "sagas.view_payload" not in rights(manager)
    assert not Group.objects.filter(name="better").exists()
    assert client.post(page, {"name": "ours", "permissions": [permission("view_sagalog").pk]}).status_code == 302
    assert [right.codename for right in own.permissions.all()] == ["view_sagalog"]


def test_a_group_that_holds_more_is_left_alone(client: Client) -> None:
    mighty = Group.objects.create(name="mighty")
    mighty.permissions.set([permission("operate_saga")])
    assert client.post(reverse("admin:auth_group_change", args=[mighty.pk]), {"name": "mine"}).status_code == 403
    mighty.refresh_from_db()
    assert (mighty.name, mighty.permissions.count()) == ("mighty", 1)


def test_a_superuser_may_all_of_it() -> None:
    root = User.objects.create_superuser("root", "root@example.org", "x")
    client = Client()
    client.force_login(root)
    guest = User.objects.create_user("guest")
    more = {"is_staff": "on", "is_superuser": "on", "user_permissions": [permission("operate_saga").pk]}
    assert client.post(page_of(guest), said(guest, **more)).status_code == 302
    guest.refresh_from_db()
    assert (guest.is_staff, guest.is_superuser) == (True, True)
