"""The error responses outside views: JSON according to the contract under /api/, the admin's pages elsewhere."""

import sys
from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase

from sagas.admin import errors as pages
from sagas.api.errors import READ_ONLY, database_complaint, outside_views


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer 400: a host that is not allowed, a body that is too large, an invalid request."""
    return outside_views(request, 400, exception) or pages.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer 403."""
    return outside_views(request, 403, exception) or pages.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Answer 404."""
    return outside_views(request, 404, exception) or pages.not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Answer 500, or 503 if the database cannot answer."""
    error = sys.exc_info()[1]
    of_api = outside_views(request, 500, error)
    if of_api is not None:
        return of_api
    unable = database_complaint(error)
    return pages.unavailable(request, read_only=unable == READ_ONLY) if unable else pages.server_error(request)


def csrf_failure(request: HttpRequest, reason: str = "", **options: Any) -> HttpResponseBase:
    """Answer 403: a form without a valid CSRF token."""
    return outside_views(request, 403) or pages.csrf_failure(request, reason)


def absent(request: HttpRequest, **parts: Any) -> HttpResponseBase:
    """Answer 404 for an address of a package that this service does not offer."""
    raise Http404
