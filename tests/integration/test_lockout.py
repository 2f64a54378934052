"""Too many failed logins lock a name out at one address: nobody guesses passwords, and nobody locks others out."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessLog
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from rest_framework.authentication import SessionAuthentication

from sagas.api.authentication import TokenAuthentication

pytestmark = pytest.mark.django_db

LOGIN = "/admin/login/"
RIGHT, WRONG = "a-long-enough-pass-phrase-9", "guess-7f3a"
HERE, ELSEWHERE = "203.0.113.7", "203.0.113.8"
LIMIT = settings.AXES_FAILURE_LIMIT


@pytest.fixture(autouse=True)
def people() -> None:
    for name in ("ana", "ben"):
        User.objects.create_superuser(name, f"{name}@example.org", RIGHT)


def log_in(name: str, password: str, address: str = HERE, **more: Any) -> Any:
    return Client(REMOTE_ADDR=address).post(LOGIN, {"username": name, "password": password}, **more)


def lock(name: str = "ana") -> list[int]:
    return [log_in(name, WRONG, headers={"user-agent": f"browser {number}"}).status_code for number in range(LIMIT)]


def test_a_name_is_locked_out_at_one_address_alone() -> None:
    assert lock() == [200] * (LIMIT - 1) + [429]
    answer = log_in("ana", RIGHT)
    page = answer.content.decode()
    assert (answer.status_code, answer["Retry-After"]) == (429, "900")
    assert "Too many failed logins" in page
    assert "15 minutes" in page
    assert log_in("ana", RIGHT, ELSEWHERE).status_code == 302
    assert log_in("ben", RIGHT).status_code == 302


def test_the_page_is_in_the_readers_language() -> None:
    lock()
    page = log_in("ana", RIGHT, headers={"accept-language": "es"}).content.decode()
    assert "Demasiados intentos fallidos" in page


def test_a_login_that_succeeds_begins_the_count_anew() -> None:
    for _ in range(3):
        assert [log_in("ana", WRONG).status_code for _ in range(LIMIT - 1)] == [200] * (LIMIT - 1)
        assert log_in("ana", RIGHT).status_code == 302
    assert not AccessAttempt.objects.exists()
    assert not AccessLog.objects.exists()


def test_it_ends_on_its_own_and_by_command() -> None:
    lock()
    for _ in range(3):
        log_in("ana", WRONG)  # does not lengthen it
    AccessAttempt.objects.update(attempt_time=timezone.now() - settings.AXES_COOLOFF_TIME - timedelta(seconds=1))
    assert log_in("ana", RIGHT).status_code == 302
    lock()
    call_command("axes_reset_username", "ana")
    assert log_in("ana", RIGHT).status_code == 302


def test_the_log_shows_who_and_from_where_and_nothing_that_was_typed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        lock()
        log_in("ana", RIGHT)
        log_in(RIGHT, "x")  # the password in the wrong field
        log_in("ben", RIGHT)
    assert f"Locking out ana from {HERE}" in caplog.text
    assert "New login failure by unknown-" in caplog.text
    assert f"Successful login by ben from {HERE}" in caplog.text
    assert RIGHT not in caplog.text
    assert WRONG not in caplog.text


def test_nothing_that_was_typed_is_stored() -> None:
    log_in("ana", WRONG, query_params={"next": "/admin/?q=secret"})
    log_in(RIGHT, "x")
    stored = repr(list(AccessAttempt.objects.values_list()))
    assert AccessAttempt.objects.count() == 2
    assert not [word for word in (RIGHT, WRONG, "secret") if word in stored]


def test_a_name_that_no_one_has_is_locked_out_like_any_other() -> None:
    assert lock("nobody") == [200] * (LIMIT - 1) + [429]
    assert log_in("nobody2", WRONG).status_code == 200


@pytest.mark.parametrize("name", ["a\x00b", "x" * 5_000, "", "ñandú", "' OR 1=1"])
def test_no_name_is_a_fault(name: str) -> None:
    assert log_in(name, WRONG).status_code == 200


def test_attempts_while_locked_out_are_not_stored() -> None:
    lock()
    rows = AccessAttempt.objects.count()
    for number in range(5):
        log_in("ana", WRONG, headers={"user-agent": f"other {number}"})
    assert AccessAttempt.objects.count() == rows


def views(patterns: list[Any]) -> list[Any]:
    found = []
    for item in patterns:
        if isinstance(item, URLResolver):
            found += views(item.url_patterns)
        elif isinstance(item, URLPattern):
            found.append(item.callback)
    return found


def test_no_other_door_takes_a_password() -> None:
    """Tokens and sessions alone open the API, and the admin has the one login page."""
    everything = views(get_resolver().url_patterns)
    classes = [view.cls for view in everything if hasattr(view, "cls")]
    assert len(classes) > 20
    assert {kind for view in classes for kind in view.authentication_classes} == {
        TokenAuthentication,
        SessionAuthentication,
    }
    modules = {view.__module__ for view in everything}
    assert not [
        module for module in modules if module.startswith(("knox", "rest_framework", "django.contrib.auth.views"))
    ]
