"""Unmatched events: grouped by key, and the page of a group with its single events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from bridge import clock, readings
from sagas import actions, incidents, nouns, queries
from sagas.actions import Action, Target
from sagas.admin import buttons, formatting, job
from sagas.admin.pagination import from_page, number_of
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.refusals import what_became_of
from sagas.admin.rights import may_operate
from sagas.models import Parked, ParkedReason, SagaLog
from sagas.queries.ids import saga_id
from sagas.queries.pages import page_of

GROUPS = 25
EVENTS = 50


@admin.register(Parked)
class ParkedAdmin(ReadOnlyAdmin):
    own_parameters = ("page", "dismissed", "incident")
    list_title = _("unmatched events")

    def own_urls(self) -> list[URLPattern]:
        return [self.own_path("group/", self.group_view, "group")]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the groups, longest waiting first."""
        self.need_view(request)
        dismissed = request.GET.get("dismissed") == "yes"
        number = number_of(request, "page")
        only = _of_incident(request.GET.get("incident", ""))
        page = queries.parked_groups((number - 1) * GROUPS, GROUPS, dismissed=dismissed, only=only)
        context = {
            "title": self.list_title,
            "groups": from_page(request, "page", page),
            "lines": _with_buttons(page.items, dismissed=dismissed, may_operate=may_operate(request)),
            "dismissed": dismissed,
            "reasons": dict(ParkedReason.choices),
            "may_operate": may_operate(request),
            "job_actions": _job_actions(request, dismissed=dismissed),
        }
        return self.draw(request, "sagas/admin/parked.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Redirect to the group of the event."""
        self.need_view(request)
        number = int(object_id) if object_id.isascii() and object_id.isdigit() and len(object_id) < 19 else 0
        row = Parked.objects.filter(event=number).first()
        if row is None:
            raise Http404(gettext("This event is not in the list of unmatched events (any more)."))
        return HttpResponseRedirect(formatting.parked_url(row.stream, row.key, row.entity))

    def group_view(self, request: HttpRequest) -> HttpResponse:
        """Show all unmatched events of a key; without one, all of an entity."""
        self.need_view(request)
        group = {name: request.GET.get(name, "").replace("\x00", "") for name in ("stream", "key", "entity")}
        rows = _group(**group)
        number = number_of(request, "page")
        page = page_of(rows, (number - 1) * EVENTS, EVENTS)
        if not page.total:
            gone = what_became_of(group["stream"], group["key"])
            text = gettext("There are no unmatched events with this id (any more).")
            raise Http404(f"{text} {capfirst(gone)}." if gone else text)
        suggestion = _suggestion(rows)
        name = (group["stream"], group["key"])
        use = actions.uses_of_keys([name])[name]
        candidate = suggestion
        if len(use.takers) == 1:
            candidate = SagaLog.objects.filter(id__in=use.takers).first()
        waits = rows.filter(dismissed_at__isnull=True).exists()
        operates = may_operate(request)
        context = {
            "title": group["key"] or group["entity"],
            "nouns": nouns.of(group["stream"]),
            "group": group,
            "rows": from_page(request, "page", page),
            "events": _events_of(page.items, suggestion if operates else None, operates=operates),
            "suggestion": suggestion,
            "actions": buttons.of_group(use, candidate, waits=waits) if operates else [],
            "pruned_at": queries.pruned_at([(group["stream"], group["key"])]).get((group["stream"], group["key"])),
            "may_operate": may_operate(request),
        }
        return self.draw(request, "sagas/admin/parked_group.html", context)


def _job_actions(request: HttpRequest, *, dismissed: bool) -> list[tuple[str, str]]:
    """Return the decisions on all waiting or dismissed events that this person may make as a job."""
    specs = [spec for spec in actions.of_target(Target.PARKED, Target.KEY) if job.may_make(request, spec)]
    offered = [spec for spec in specs if not (dismissed and spec.name == Action.DISMISS)]
    return [(spec.name, nouns.shared().fill(spec.title)) for spec in offered]


def _of_incident(text: str) -> QuerySet[Any, Any] | None:
    """Return the ids of the events of an incident, none for another text; None without a text."""
    if not text:
        return None
    identity = saga_id(text)
    found = incidents.cause_of(identity) if identity is not None else None
    if found is None or incidents.target_of(found[0]) != "parked":
        return Parked.objects.none().values_list("pk", flat=True)
    return incidents.targets_of(*found, clock.now())


def _group(stream: str, key: str, entity: str) -> QuerySet[Parked]:
    rows = Parked.objects.filter(stream=stream, key=key)
    return (rows if key else rows.filter(entity=entity)).order_by("event")


def _events_of(rows: Any, suggestion: SagaLog | None, *, operates: bool) -> list[dict[str, Any]]:
    """Return each unmatched row with its event (without bodies) and the decisions on it alone."""
    found = readings.events([row.event for row in rows])
    return [
        {
            "row": row,
            "event": found[row.event],
            "actions": buttons.of_event(row, found[row.event].event_id, suggestion) if operates else [],
        }
        for row in rows
        if row.event in found
    ]


def _with_buttons(groups: Sequence[queries.ParkedGroup], *, dismissed: bool, may_operate: bool) -> list[dict[str, Any]]:
    """Return each group with the decisions on it. Four queries, whatever the number of groups."""
    uses = actions.uses_of_keys((group.stream, group.key) for group in groups if group.key) if may_operate else {}
    candidates = {(group.stream, group.key): group.suggestion for group in groups}
    candidates |= {name: next(iter(use.takers)) for name, use in uses.items() if len(use.takers) == 1}
    sagas = SagaLog.objects.in_bulk(list({saga for saga in candidates.values() if saga})) if uses else {}
    lines = []
    for group in groups:
        use = uses.get((group.stream, group.key))
        candidate = candidates[group.stream, group.key]
        saga = sagas.get(candidate) if candidate else None
        possible = buttons.of_group(use, saga, waits=not dismissed, main=False) if use else []
        lines.append({"group": group, "actions": possible})
    return lines


def _suggestion(rows: QuerySet[Parked]) -> SagaLog | None:
    likely = {row for row in rows.order_by().values_list("suggestion", flat=True).distinct()[:3] if row}
    return SagaLog.objects.filter(id=likely.pop()).first() if len(likely) == 1 else None
