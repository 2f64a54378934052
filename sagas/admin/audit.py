"""The audit: every decision with actor, time, entry point and reason. And the pages that take decisions."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from bridge import instants
from sagas import actions, targets
from sagas.admin import formatting, search
from sagas.admin.action_views import LABELS, decide_view
from sagas.admin.filters import ActionFilter
from sagas.admin.form_drafts import over_a_login
from sagas.admin.forms import nouns_of_target
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.models import Decision, reason_text
from sagas.queries.ids import saga_id


@admin.register(Decision)
class DecisionAdmin(ReadOnlyAdmin):
    list_display = ("what", "on_what", "actor", "entry_point", "when", "why")
    list_display_links = None
    list_filter = (ActionFilter,)
    search_fields = ("id",)
    search_help_text = _("Full id of a decision, or any full id of a saga")
    ordering = ("-decided_at",)
    page_template = "sagas/admin/decision.html"

    def own_urls(self) -> list[URLPattern]:
        own = self.own_path("decide/<slug:action>/", self.decide, "decide")
        own.callback = over_a_login(own.callback)
        return [own]

    def decide(self, request: HttpRequest, action: str) -> HttpResponse:
        """Prepare, preview and carry out a decision."""
        return decide_view(self, request, action)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Decision]:
        return Decision.objects.defer("answer").annotate(breaker=F("answer__effects__breaker"))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        found = saga_id(search_term)
        if found is not None and Decision.objects.filter(id=found).exists():
            return queryset.filter(id=found), False
        return queryset.filter(saga__in=search.saga_ids(search_term)), False

    @admin.display(description=_("decision"))
    def what(self, decision: Decision) -> SafeString:
        page = reverse("admin:sagas_decision_change", args=[decision.id])
        return formatting.link(page, actions.label_of(decision.action), instants.for_people(decision.decided_at))

    @admin.display(description=_("target"))
    def on_what(self, decision: Decision) -> SafeString:
        return formatting.short_ids(targets.text(decision.target, decision.target_data))

    @admin.display(description=_("via"))
    def entry_point(self, decision: Decision) -> str:
        return decision.get_door_display()

    @admin.display(description=_("when"))
    def when(self, decision: Decision) -> Any:
        return formatting.at(decision.decided_at)

    @admin.display(description=_("why"))
    def why(self, decision: Decision) -> str:
        text = reason_text(decision.door, decision.reason, decision.breaker)  # type: ignore[attr-defined]
        return text if len(text) <= 120 else text[:119] + "…"

    def page(self, request: HttpRequest, row: Decision) -> dict[str, Any]:
        commands = [
            {
                **command,
                "before": LABELS.get(command["status_before"], command["status_before"] or ""),
                "after": LABELS.get(command["status_after"], command["status_after"]),
            }
            for command in row.answer.get("commands", [])
        ]
        words = nouns_of_target({"saga": row.saga})
        return {
            "title": actions.label_of(row.action, words),
            "target": targets.text(row.target, row.target_data),
            "nouns": words,
            "lines": list(actions.of_closing(row.answer.get("effects", {}))),
            "commands": commands,
            "more": row.answer.get("commands_total", len(commands)) - len(commands),
        }
