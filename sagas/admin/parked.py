"""Events without a saga: grouped by key, and the page of a group with its single events."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils.translation import gettext

from bridge.models import Event
from sagas import queries
from sagas.admin import words
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.rights import may_operate
from sagas.admin.slices import from_page, number_of
from sagas.models import Parked, ParkedReason, SagaLog
from sagas.queries.pages import page_of

GROUPS = 25
EVENTS = 50
REASONS = dict(ParkedReason.choices)


@admin.register(Parked)
class ParkedAdmin(ReadOnlyAdmin):
    def own_urls(self) -> list[URLPattern]:
        return [self.own_path("group/", self.group_view, "group")]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The groups, the longest parked first."""
        self.need_view(request)
        dismissed = request.GET.get("dismissed") == "yes"
        number = number_of(request, "page")
        page = queries.parked_groups((number - 1) * GROUPS, GROUPS, dismissed=dismissed)
        context = {
            "title": self.opts.verbose_name_plural,
            "groups": from_page(request, "page", page),
            "dismissed": dismissed,
            "reasons": REASONS,
            "may_operate": may_operate(request),
        }
        return self.draw(request, "sagas/admin/parked.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One event is shown among those of its key."""
        self.need_view(request)
        row = Parked.objects.filter(event=object_id).first() if object_id.isascii() and object_id.isdigit() else None
        if row is None:
            raise Http404(gettext("This event is not parked (any more)."))
        return HttpResponseRedirect(words.parked_url(row.stream, row.key, row.entity))

    def group_view(self, request: HttpRequest) -> HttpResponse:
        """All parked events of a key; of those that name none, all of an image."""
        self.need_view(request)
        said = {name: request.GET.get(name, "").replace("\x00", "") for name in ("stream", "key", "entity")}
        rows = _group(**said)
        number = number_of(request, "page")
        page = page_of(rows, (number - 1) * EVENTS, EVENTS)
        if not page.total:
            raise Http404(gettext("Nothing is parked under this (any more)."))
        context = {
            "title": said["key"] or said["entity"],
            "said": said,
            "rows": from_page(request, "page", page),
            "events": _events_of(page.items),
            "suggestion": _suggestion(rows),
            "pruned_at": queries.pruned_at([(said["stream"], said["key"])]).get((said["stream"], said["key"])),
            "may_operate": may_operate(request),
        }
        return self.draw(request, "sagas/admin/parked_group.html", context)


def _group(stream: str, key: str, entity: str) -> QuerySet[Parked]:
    rows = Parked.objects.filter(stream=stream, key=key)
    return (rows if key else rows.filter(entity=entity)).order_by("event")


def _events_of(rows: Any) -> list[dict[str, Any]]:
    """Each parked row with its event (no bodies)."""
    found = Event.objects.filter(pk__in=[row.event for row in rows]).defer("payload", "body_hash").in_bulk()
    return [{"row": row, "event": found[row.event]} for row in rows if row.event in found]


def _suggestion(rows: QuerySet[Parked]) -> SagaLog | None:
    likely = {row for row in rows.order_by().values_list("suggestion", flat=True).distinct()[:3] if row}
    return SagaLog.objects.filter(id=likely.pop()).first() if len(likely) == 1 else None
