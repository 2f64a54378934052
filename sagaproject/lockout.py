"""The functions that django-axes calls about failed logins: the name, the client for the log, and the response.

A name is locked together with the address, so that an attacker cannot lock out users at other addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import salted_hmac

from sagas.admin import errors as pages
from sagas.api.errors import outside_views


def username(request: HttpRequest, credentials: Mapping[str, Any] | None = None) -> str:
    """Return the name of the login; for an unknown name a digest, since it may be a password in the wrong field."""
    name = str((credentials or request.POST).get("username") or "")
    if "\x00" not in name and get_user_model().objects.filter(username=name).exists():
        return name
    return f"unknown-{salted_hmac(__name__, name, algorithm='sha256').hexdigest()[:16]}"


def describe_client(name: str, address: str, user_agent: str, path: str, request: HttpRequest) -> str:
    """Return the client for the log, without anything that the client can choose freely."""
    return f"{name} from {address}"


def locked_out(request: HttpRequest, original: HttpResponse | None = None, credentials: Any = None) -> HttpResponse:
    """Answer 429 to a login that is locked."""
    found: HttpResponse = outside_views(request, 429) or pages.locked_out(request, settings.AXES_COOLOFF_TIME)
    found.headers["Retry-After"] = str(int(settings.AXES_COOLOFF_TIME.total_seconds()))
    return found
