"""Error pages, in the admin's frame and the reader's language, with Django's status codes.

Addresses of the API answer in JSON instead (`sagaproject.error_pages`). The pages for 400, 429, 500 and 503 are
standalone: they need neither database nor login.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import site
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _

from sagas.admin import form_drafts
from sagas.admin.action_views import draw_again
from sagas.admin.rights import may_operate

DECIDE = "sagas_decision_decide"


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 400: an unreadable request. Standalone, since even its host may be wrong."""
    text = _("The server could not read this request. Go back, reload the page and try again.")
    return _alone(request, 400, _("Bad request"), text)


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 403: logged in, but not allowed."""
    text = str(exception or "") or _(
        "Your account does not have the permission for this page. Ask an administrator for it."
    )
    return _page(request, 403, _("Not allowed"), text)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer 404, with the exception's message if it is a text for people."""
    message = exception.args[0] if exception is not None and exception.args else ""
    text = message if isinstance(message, str) and message else _("This page does not exist, or it was removed.")
    return _page(request, 404, _("Page not found"), str(text))


def too_many_requests(request: HttpRequest) -> HttpResponse:
    """Answer 429: too many failed logins from an address. Standalone: an attacker's request must be cheap."""
    text = _("Too many logins failed from your address. Wait a minute and try again.")
    return _alone(request, 429, _("Too many failed logins"), text)


def locked_out(request: HttpRequest, lasts: timedelta) -> HttpResponse:
    """Answer 429: a login name is locked for this address for a time."""
    text = _(
        "Too many logins with this name failed from your address. Try again in %(minutes)d minutes, or "
        "ask an administrator to unlock it."
    )
    return _alone(request, 429, _("Too many failed logins"), text % {"minutes": lasts.total_seconds() // 60})


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500: a fault of this service. Standalone: the database may be unavailable."""
    text = _(
        "The service could not answer. Try again in a moment. If the error persists, contact the operator"
        " of the service."
    )
    return _alone(request, 500, _("Server error"), text)


def unavailable(request: HttpRequest, *, read_only: bool) -> HttpResponse:
    """Answer 503: the database is unavailable or, with `read_only`, read-only. Standalone: it needs no database."""
    if read_only:
        text = _("The database is read-only at present, so nothing was changed. Stored data can still be viewed.")
    else:
        text = _("The database is not available, so nothing can be shown or changed. Try again in a moment.")
    return _alone(request, 503, _("Temporarily unavailable"), text)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer 403: the form belongs to another login. Nothing is done.

    A decision's form is shown again with what was typed.
    """
    match = request.resolver_match
    if request.method == "POST" and match is not None and match.url_name == DECIDE:
        action = str(match.kwargs["action"])
        if _is_own_form(request, action):
            return draw_again(request, action, _notice())
        back = "" if request.user.is_authenticated else form_drafts.keep(request, action)
        if back:
            text = _("You are no longer logged in. Nothing was done. What you typed is kept: log in to continue.")
            return _page(request, 403, _("Log in again"), text, back=back)
    text = _(
        "This form was opened before you logged in or out, so it is no longer valid. Nothing was done. "
        "Open the page again and repeat it."
    )
    return _page(request, 403, _("The form is no longer valid"), text)


def _is_own_form(request: HttpRequest, action: str) -> bool:
    """Return whether we rendered the form for the current login; no other site can forge one."""
    return site.has_permission(request) and may_operate(request) and form_drafts.author(request, action) == _pk(request)


def _pk(request: HttpRequest) -> str:
    return str(request.user.pk)


def _notice() -> str:
    return _(
        "This form was opened before you logged in again. Nothing was done. What you typed is still here: check it and "
        "confirm again."
    )


def _page(request: HttpRequest, status: int, title: str, text: str, *, back: str = "") -> HttpResponse:
    """Render in the admin's frame for staff, else in the frame of the login page."""
    top = reverse("admin:index")
    if not hasattr(request, "user") or not hasattr(request, "session"):
        return _alone(request, status, title, text)
    inside = site.has_permission(request) and request.path.startswith(top)
    context: dict[str, Any] = {
        **site.each_context(request),
        "title": title,
        "text": text,
        "status": status,
        "login": f"{reverse('admin:login')}?{urlencode({'next': back})}" if back else reverse("admin:login"),
    }
    return render(request, f"sagas/admin/error{'' if inside else '_outside'}.html", context, status=status)


def _alone(request: HttpRequest, status: int, title: str, text: str) -> HttpResponse:
    context = {
        "title": title,
        "text": text,
        "status": status,
        "language": translation.get_language() or "en",
        "start": reverse("admin:index"),
    }
    return HttpResponse(render_to_string("sagas/admin/error_alone.html", context), status=status)
