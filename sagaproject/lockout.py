"""What django-axes asks about a failed login: whose it was, how a line of the log says it, and what is answered.

A name is locked together with the address, so that nobody can lock others out from elsewhere.
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
    """Return the name of a login, or of one that there is not a digest: it may be a password in the wrong field."""
    said = str((credentials or request.POST).get("username") or "")
    if "\x00" not in said and get_user_model().objects.filter(username=said).exists():
        return said
    return f"unknown-{salted_hmac(__name__, said).hexdigest()[:16]}"


def described(name: str, address: str, user_agent: str, path: str, request: HttpRequest) -> str:
    """Return who it was, for the log: nothing that a client can choose freely."""
    return f"{name} from {address}"


def answer(request: HttpRequest, original: HttpResponse | None = None, credentials: Any = None) -> HttpResponse:
    """Answer 429 to a login that is locked out."""
    found: HttpResponse = outside_views(request, 429) or pages.locked_out(request, settings.AXES_COOLOFF_TIME)
    found.headers["Retry-After"] = str(int(settings.AXES_COOLOFF_TIME.total_seconds()))
    return found
