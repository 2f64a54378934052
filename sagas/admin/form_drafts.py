"""Keep what a person typed into a decision's form across a login. Nothing is carried out; no URL or log has the text.

A form carries a signed note on the user that it was rendered for. If it is submitted without a login, its fields are
kept in the browser's session for that user and a short time, and the user returns to the same page with them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.admin import site
from django.contrib.auth.views import redirect_to_login
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url

from sagas import actions
from sagas.admin import formatting
from sagas.admin.forms import form_of

SALT = "sagas.admin.form_drafts"
IN_SESSION = "typed_decisions"
# A form may stay open over a weekend; kept fields wait for a login that follows soon, or after a break.
NOTE_AGE = timedelta(days=7)
KEPT_FOR = timedelta(hours=1)
# Enough for 5,000 ids, the highest SAGA_JOB_FROM.
MOST_CHARACTERS = 300_000
MOST_FORMS = 3
# Longer targets stay in the session: servers and proxies truncate addresses of several thousand characters.
LONGEST_TARGET = 1500
NOT_IN_AN_ADDRESS = ("reason", "request_key")
View = Callable[..., HttpResponse]


def note(request: HttpRequest, action: str) -> str:
    """Return the signed note of a form: the user that it was rendered for."""
    return signing.dumps([str(request.user.pk), action], salt=SALT)


def author(request: HttpRequest, action: str) -> str | None:
    """Return the key of the user of a submitted form; None if its note is not ours, or too old."""
    try:
        user, noted_action = signing.loads(request.POST.get("typed_by", ""), salt=SALT, max_age=NOTE_AGE)
    except (signing.BadSignature, ValueError):
        return None
    return str(user) if noted_action == action else None


def over_a_login(view: View) -> View:
    """Wrap a view: a form submitted without a login leads to the login page and then back to the filled-in form."""

    def kept(request: HttpRequest, action: str) -> HttpResponse:
        if request.method == "POST" and not site.has_permission(request):
            back = keep(request, action)
            if back:
                return redirect_to_login(back, resolve_url(settings.LOGIN_URL))
        return view(request, action)

    return kept


def keep(request: HttpRequest, action: str) -> str:
    """Keep a form's fields in the session; return the address of the filled-in form, empty if none is kept."""
    user, spec = author(request, action), actions.ACTIONS.get(action)
    if user is None or spec is None:
        return ""
    fields = {name: request.POST[name] for name in form_of(spec).base_fields if request.POST.get(name)}
    if sum(map(len, fields.values())) > MOST_CHARACTERS:
        return ""
    name = secrets.token_urlsafe(12)
    kept = {**_unexpired(request), name: {"user": user, "action": action, "at": time.time(), "fields": fields}}
    request.session[IN_SESSION] = dict(list(kept.items())[-MOST_FORMS:])
    target = {key: value for key, value in fields.items() if key not in NOT_IN_AN_ADDRESS}
    if len(urlencode(target)) > LONGEST_TARGET:
        target = {}
    return formatting.decide_url(action, **target, kept=name)


def kept_fields(request: HttpRequest, action: str) -> Mapping[str, str]:
    """Return the fields of the kept form that the address names, if this person typed them; else nothing."""
    found = _unexpired(request).get(request.GET.get("kept", ""))
    if found is None or (found["user"], found["action"]) != (str(request.user.pk), action):
        return {}
    fields: Mapping[str, str] = found["fields"]
    return fields


def forget(request: HttpRequest, action: str) -> None:
    """Drop the kept forms of an action, after one was carried out."""
    kept = request.session.get(IN_SESSION)
    if kept:
        request.session[IN_SESSION] = {name: form for name, form in kept.items() if form["action"] != action}


def _unexpired(request: HttpRequest) -> dict[str, Any]:
    kept: dict[str, Any] = request.session.get(IN_SESSION, {})
    since = time.time() - KEPT_FOR.total_seconds()
    return {name: form for name, form in kept.items() if form["at"] > since}
