"""The browsable API: DRF's pages, with forms that work without JavaScript."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework.renderers import BrowsableAPIRenderer

from sagas.api.parameters import ALWAYS


class PageRenderer(BrowsableAPIRenderer):
    """Render the parameters of an address as a plain form, and its pages as plain links."""

    template = "sagas/api/page.html"

    def get_context(self, data: Any, accepted_media_type: Any, renderer_context: Mapping[str, Any]) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(data, accepted_media_type, renderer_context)
        view, request = renderer_context["view"], renderer_context["request"]
        parameters = getattr(view, "parameters", None)
        if parameters is not None and parameters.base_filters and request.method == "GET":
            context["parameters_form"] = parameters.form_of(request)
        context |= _neighbours(request, data)
        return context

    def get_filter_form(self, data: Any, view: Any, request: Any) -> None:
        """Return None: `parameters_form` replaces it. DRF would query rows to render a form for a bare list."""

    def show_form_for_method(self, view: Any, method: str, request: Any, obj: Any) -> bool:
        # DRF checks the permission; an address that is only read has no such form.
        return method == "POST" and bool(super().show_form_for_method(view, method, request, obj))


def _neighbours(request: Any, data: Any) -> dict[str, str]:
    """Return the query strings of the previous and the next page."""
    if not isinstance(data, Mapping) or not {"total", "offset", "limit", "items"} <= set(data):
        return {}
    total, offset, limit = data["total"], data["offset"], data["limit"]
    found = {}
    if offset > 0:
        found["page_before"] = _query(request, max(0, offset - limit))
    if offset + limit < total:
        found["page_after"] = _query(request, offset + limit)
    return found


def _query(request: Any, offset: int) -> str:
    query = request.query_params.copy()
    for name in ALWAYS:
        query.pop(name, None)
    query["offset"] = str(offset)
    return str(query.urlencode())
