"""Sagas: the list, the page of one, the page of one of its lanes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Case, Exists, OuterRef, QuerySet, When
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from compensation import deadlines
from compensation.deadlines import DeadlineHolds
from compensation.models import INACTIVE, CommandStatus
from sagas import actions, nouns, queries
from sagas.actions import Target, WholeSagaView
from sagas.admin import buttons, chosen, formatting, search
from sagas.admin.filters import (
    AgeFilter,
    ByHandFilter,
    IncidentOfSagasFilter,
    SetAsideFilter,
    StatusFilter,
    TypeFilter,
    made_by_hand,
)
from sagas.admin.pagination import PageSlice, from_page, number_of
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.rights import VIEW_COMMANDS, may, may_operate, may_view_payload
from sagas.definitions import registry
from sagas.error_text import shown_text
from sagas.models import Lane, SagaKey, SagaLog, SagaStatusChoice
from sagas.nouns import fill_lazy, lazy_noun
from sagas.queries import parts
from sagas.queries.pages import page_of

LANES = 25
COMMANDS = 25
STEPS = 50
TIMELINE = 50

# At module level: creating them costs more than everything else in a row of the list.
LANE_COUNTS = {
    "lanes_processed": ngettext_lazy("%(n)d processed", "%(n)d processed", "n"),
    "lanes_open": ngettext_lazy("%(n)d open", "%(n)d open", "n"),
    "lanes_undoing": ngettext_lazy("%(n)d being undone", "%(n)d being undone", "n"),
    "lanes_undone": ngettext_lazy("%(n)d undone", "%(n)d undone", "n"),
    "lanes_settled": ngettext_lazy("%(n)d closed manually", "%(n)d closed manually", "n"),
}
COMMAND_COUNTS = {
    "commands_exhausted": ngettext_lazy("%(n)d needs a decision", "%(n)d need a decision", "n"),
    "commands_on_the_way": ngettext_lazy("%(n)d pending", "%(n)d pending", "n"),
    "commands_confirmed": ngettext_lazy("%(n)d confirmed", "%(n)d confirmed", "n"),
}


@admin.register(SagaLog)
class SagaAdmin(ReadOnlyAdmin):
    # "badges", not "state": for that name the list would show the field.
    list_display = ("name", "badges", "lanes", "commands", "started", "last_event", "failure")
    list_display_links = None
    list_filter = (StatusFilter, AgeFilter, TypeFilter, SetAsideFilter, ByHandFilter, IncidentOfSagasFilter)
    search_fields = ("id",)
    search_help_text = fill_lazy(_("Full saga id, correlation id, event id, %(key_id)s or %(entity_id)s"))
    ordering = ("-start_time", "-id")
    page_template = "sagas/admin/saga.html"
    list_after_template = chosen.ALL_MATCHING

    def get_queryset(self, request: HttpRequest) -> QuerySet[SagaLog]:
        decided = made_by_hand().filter(saga=OuterRef("id"))
        return SagaLog.objects.annotate(by_hand=Exists(decided))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list; each saga has its error as this person may see it."""
        found = super().get_changelist_instance(request)
        found.result_list = list(found.result_list)
        payload = may_view_payload(request)
        for saga in found.result_list:
            saga.shown_error = shown_text(saga.error_message, payload=payload)
        return found

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        return queryset.filter(id__in=search.saga_ids(search_term)), False

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        """Return the decisions that sagas with the list's filters may allow.

        Django 6.1 passes action_location, and warns about a method that does not name it.
        """
        possible = actions.possible(*_views_in_list(request))
        return chosen.decisions(request, actions.of_target(Target.SAGA), possible)

    def own_urls(self) -> list[URLPattern]:
        return [self.own_path("<uuid:saga_id>/lane/", self.lane_view, "lane")]

    # --- the list -----------------------------------------------------------------------------------------------------

    @admin.display(description=lazy_noun("key_id"))
    def name(self, saga: SagaLog) -> SafeString | str:
        return formatting.short_id(saga.key, formatting.saga_url(saga.id))

    @admin.display(description=_("status"))
    def badges(self, saga: SagaLog) -> SafeString:
        parts_ = [formatting.badge(saga.status, saga.get_status_display())]
        if saga.set_aside_at is not None:
            parts_.append(formatting.badge("set_aside", gettext("blocked by an error"), "bad"))
        if saga.by_hand:  # type: ignore[attr-defined]
            parts_.append(formatting.badge("by_hand", gettext("manual"), "hand"))
        return SafeString(" ".join(parts_))

    @admin.display(description=lazy_noun("entity_nouns"))
    def lanes(self, saga: SagaLog) -> str:
        return tally(saga)

    @admin.display(description=_("commands"))
    def commands(self, saga: SagaLog) -> str:
        return counts_text(saga, COMMAND_COUNTS)

    @admin.display(description=_("started at"))
    def started(self, saga: SagaLog) -> Any:
        return formatting.at(saga.start_time)

    @admin.display(description=_("last event"))
    def last_event(self, saga: SagaLog) -> SafeString:
        return formatting.ago(saga.last_event_at, timezone.now())

    @admin.display(description=_("error"))
    def failure(self, saga: SagaLog) -> str:
        text = saga.set_aside_error or saga.shown_error  # type: ignore[attr-defined]
        return text if len(text) <= 60 else text[:59] + "…"

    # --- the page -----------------------------------------------------------------------------------------------------

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        """Return the columns; the saga type only if there are several."""
        several = len(registry.current_definitions()) > 1
        return (self.list_display[0], "type_title", *self.list_display[1:]) if several else self.list_display

    @admin.display(description=_("type"))
    def type_title(self, saga: SagaLog) -> str:
        return nouns.titles().get(saga.saga_type, saga.saga_type)

    def page(self, request: HttpRequest, row: SagaLog) -> dict[str, Any]:
        holds = deadlines.deadline_holds()  # read once, so that the whole page shows one moment
        payload = may_view_payload(request)
        waiting = queries.waiting(row, holds, payload=payload)
        return {
            "title": row.key,
            "nouns": nouns.of(row.saga_type),
            "waiting": waiting,
            "tally": tally(row),
            "run": queries.run_text(row),
            "duplicates": queries.duplicates(row),
            "counted": queries.counted_events(row),
            "keys": list(SagaKey.objects.filter(saga=row).values_list("key", flat=True)[:20]),
            "lanes": lane_slice(request, row),
            "commands": command_slice(request, row, holds=holds) if may(request, VIEW_COMMANDS) else None,
            "timeline": timeline_slice(request, row.id, holds, payload=payload),
            "may_operate": may_operate(request),
            "actions": buttons.of_saga(row, waiting) if may_operate(request) else [],
            "bulk": buttons.of_commands(row) if may_operate(request) else [],
        }

    def lane_view(self, request: HttpRequest, saga_id: UUID) -> HttpResponse:
        """Show the page of one lane: its steps and its commands."""
        self.need_view(request)
        entity = request.GET.get("lane", "").replace("\x00", "")
        lane = Lane.objects.select_related("saga").filter(saga=saga_id, entity=entity, known=True).first()
        if lane is None:
            raise Http404(gettext("The saga has no part with this id."))
        shown = number_of(request, "steps")
        page = page_of(parts.steps(saga_id).filter(entity=entity), (shown - 1) * STEPS, STEPS)
        context = {
            "title": entity,
            "nouns": nouns.of(lane.saga.saga_type),
            "crumbs": [(formatting.saga_url(saga_id), lane.saga.key)],
            "lane": lane,
            "saga": lane.saga,
            "steps": from_page(request, "steps", page),
            "commands": command_slice(request, lane.saga, entity) if may(request, VIEW_COMMANDS) else None,
            "actions": buttons.of_lane(lane) if may_operate(request) else [],
            "may_operate": may_operate(request),
        }
        return self.draw(request, "sagas/admin/lane.html", context)


def _views_in_list(request: HttpRequest) -> list[WholeSagaView]:
    """Return the states that sagas with the list's filters may be in."""
    status, saga_type = (request.GET.get(name, "") for name in ("status", "type"))
    if status and status not in SagaStatusChoice.values:
        return []
    return actions.sagas_like(status, saga_type, blocked=bool(request.GET.get("set_aside")))


def tally(saga: SagaLog) -> str:
    """Return the number of lanes by status, as text."""
    return counts_text(saga, LANE_COUNTS)


def counts_text(saga: SagaLog, labels: Mapping[str, Any]) -> str:
    """Return counts with their labels; the labels agree with the count, which matters in Spanish."""
    counts = ((getattr(saga, column), label) for column, label in labels.items())
    return ", ".join(label % {"n": count} for count, label in counts if count) or "–"


def lane_slice(request: HttpRequest, saga: SagaLog) -> PageSlice:
    """Return a page of the saga's lanes. Their number is known without counting."""
    number = number_of(request, "lanes")
    page = parts.lane_page(saga, parts.lanes(saga.id), (number - 1) * LANES, LANES, total=saga.lanes_known)
    return from_page(request, "lanes", page)


def command_slice(
    request: HttpRequest, saga: SagaLog, entity: str | None = None, holds: DeadlineHolds | None = None
) -> PageSlice:
    """Return a page of the commands of a saga or a lane with their attempts; those that need a decision first."""
    first = Case(When(status=CommandStatus.EXHAUSTED, then=0), When(status__in=INACTIVE, then=2), default=1)
    rows = parts.commands(saga.id).defer("body", "result").order_by(first, "planned_at", "entity", "-name")
    if entity is not None:
        rows = rows.filter(entity=entity)
    number = number_of(request, "commands")
    page = parts.command_page(rows, (number - 1) * COMMANDS, COMMANDS, holds, saga=saga)
    return from_page(request, "commands", page)


def timeline_slice(request: HttpRequest, saga_id: UUID, holds: DeadlineHolds, *, payload: bool) -> PageSlice:
    """Return a page of the saga's timeline; error texts of services only with `payload`."""
    number = number_of(request, "timeline")
    page = queries.timeline(saga_id, (number - 1) * TIMELINE, TIMELINE, holds, payload=payload)
    return from_page(request, "timeline", page)
