"""The pages for what went wrong: in the admin's frame and the reader's language, with Django's status codes.

Addresses of the API answer in JSON instead (`sagaproject.error_pages`). The pages for 400, 500 and 503
stand alone: they need neither database nor login.
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
    """400: a request that cannot be read. Stands alone, since not even its host may be right."""
    text = _("The server could not read this request. Go back, reload the page and try again.")
    return _alone(request, 400, _("Bad request"), text)


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403: logged in, and not allowed."""
    text = str(exception or "") or _(
        "Your account does not have the permission for this page. Ask an administrator for it."
    )
    return _page(request, 403, _("Not allowed"), text)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404: the words of whoever raised it, if they were meant for people."""
    said = exception.args[0] if exception is not None and exception.args else ""
    text = said if isinstance(said, str) and said else _("This page does not exist, or it was removed.")
    return _page(request, 404, _("Page not found"), str(text))


def too_many_requests(request: HttpRequest) -> HttpResponse:
    """429: an address with too many failed logins. Stands alone: an attacker's request is to cost nothing."""
    text = _("Too many logins failed from your address. Wait a minute and try again.")
    return _alone(request, 429, _("Too many failed logins"), text)


def locked_out(request: HttpRequest, lasts: timedelta) -> HttpResponse:
    """429: a name that is locked out at this address for a while."""
    text = _(
        "Too many logins with this name failed from your address. Try again in %(minutes)d minutes, or "
        "ask an administrator to unlock it."
    )
    return _alone(request, 429, _("Too many failed logins"), text % {"minutes": lasts.total_seconds() // 60})


def server_error(request: HttpRequest) -> HttpResponse:
    """500: a fault of this service. Stands alone: the fault may be that the database is away."""
    text = _(
        "The service could not answer. Try again in a moment. If the error persists, contact the operator"
        " of the service."
    )
    return _alone(request, 500, _("Server error"), text)


def unavailable(request: HttpRequest, *, read_only: bool) -> HttpResponse:
    """503: the database is away or, `read_only`, takes no changes. Stands alone: nothing of it can be read or kept."""
    if read_only:
        text = _("The database is read-only at present, so nothing was changed. Stored data can still be viewed.")
    else:
        text = _("The database is not available, so nothing can be shown or changed. Try again in a moment.")
    return _alone(request, 503, _("Temporarily unavailable"), text)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403: the form is of another login. A decision's form is drawn again with what was typed; nothing was done."""
    match = request.resolver_match
    if request.method == "POST" and match is not None and match.url_name == DECIDE:
        action = str(match.kwargs["action"])
        if _is_own_form(request, action):
            return draw_again(request, action, _again())
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
    """Whether the form was drawn by us for whoever is logged in now: no other site can make one up."""
    return site.has_permission(request) and may_operate(request) and form_drafts.author(request, action) == _pk(request)


def _pk(request: HttpRequest) -> str:
    return str(request.user.pk)


def _again() -> str:
    return _(
        "This form was opened before you logged in again. Nothing was done. What you typed is still here: check it and "
        "confirm again."
    )


def _page(request: HttpRequest, status: int, title: str, text: str, *, back: str = "") -> HttpResponse:
    """In the frame for those who are logged in, else in that of the login page."""
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
