"""Incidents: the lines of the start page, the page of one with its notes, the list of those that have ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from bridge import clock
from compensation import switches
from compensation.models import Command, ExhaustedBy
from compensation.switches import Switches
from sagas import actions, incidents, nouns
from sagas.actions import Action
from sagas.admin import chosen, formatting
from sagas.admin.buttons import Button
from sagas.admin.pagination import from_page, number_of
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.rights import VIEW_COMMANDS, VIEW_PUBLISHING, VIEW_SAGAS, may, may_operate, may_view_payload
from sagas.incidents import ShownIncident
from sagas.incidents.cases import CaseTarget
from sagas.incidents.wording import direction_text
from sagas.models import Incident, SagaLog
from sagas.queries.ids import saga_id
from sagas.rights import VIEW_PARKED, VIEW_QUARANTINE

ENDED = 50
# The decisions on all cases of an incident, the first of which is the main button.
_DECISIONS: Mapping[str, Sequence[Action]] = {
    "exhausted": (Action.RETRY, Action.MARK_DONE, Action.SKIP),
    "held": (Action.WITHDRAW, Action.RELEASE),
    "overdue": (Action.MARK_DONE, Action.SKIP),
    "set_aside": (Action.RESUME,),
}
# A retry does not help where the service never confirms, or never accepts the data.
_NOT_RETRIED = (ExhaustedBy.MANUAL, ExhaustedBy.INVALID)
_ROWS: Mapping[CaseTarget, type[Command] | type[SagaLog]] = {"commands": Command, "sagas": SagaLog}
_LISTS: Mapping[CaseTarget, tuple[str, str]] = {
    "commands": ("compensation_command", VIEW_COMMANDS),
    "sagas": ("sagas_sagalog", VIEW_SAGAS),
    "messages": ("bridge_quarantined", VIEW_QUARANTINE),
    "parked": ("sagas_parked", VIEW_PARKED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An incident as it is drawn: with its badge, its trend, and the buttons that this person may use."""

    shown: ShownIncident
    tone: str
    direction: str
    trend: SafeString | str
    url: str
    cases_url: str
    buttons: Sequence[Button]


def kinds_of(request: HttpRequest) -> frozenset[str]:
    """Return the kinds of incidents that the current user may see."""
    return incidents.readable(lambda right: may(request, right))


def lines(request: HttpRequest, found: Sequence[ShownIncident]) -> list[Line]:
    """Return incidents as they are drawn. One query."""
    current = switches.peek()
    return [_line(request, shown, current) for shown in found]


def _line(request: HttpRequest, shown: ShownIncident, current: Switches) -> Line:
    return Line(
        shown=shown,
        tone="bad" if shown.kind.red else "warn",
        direction=direction_text(shown.direction),
        trend=trend(shown.trend),
        url=incident_url(shown.id),
        cases_url=_cases_url(request, shown),
        buttons=_buttons(shown, current) if may_operate(request) and shown.ended_at is None else [],
    )


def incident_url(incident: UUID) -> str:
    """Return the page of an incident."""
    return reverse("admin:sagas_incident_change", args=[incident])


def _cases_url(request: HttpRequest, shown: ShownIncident) -> str:
    """Return the list of exactly the cases of an incident; empty if there is none that the reader may see."""
    target = incidents.target_of(shown.kind.name)
    if target is not None:
        name, right = _LISTS[target]
        more = {"status": "exhausted"} if shown.kind.name == "exhausted" else {}
        return formatting.list_url(name, **more, incident=shown.id) if may(request, right) else ""
    kind, link = shown.kind.name, shown.link
    if kind in ("paused", "blocked", "breaker") and may(request, VIEW_PUBLISHING):
        return formatting.list_url("compensation_switch")
    if kind == "never_answered" and link and may(request, VIEW_COMMANDS):
        return formatting.list_url("compensation_command", service=link["service"])
    if kind == "counted" and link and may(request, VIEW_QUARANTINE):
        return formatting.list_url("bridge_quarantined", status=link["status"])
    return ""


def _buttons(shown: ShownIncident, current: Switches) -> list[Button]:
    """Return the decisions on all cases, and those on the service: each is a link to its page."""
    names = list(_DECISIONS.get(shown.kind.name, ()))
    if shown.facets.get("exhausted_by") in _NOT_RETRIED:
        names.remove(Action.RETRY)
    found = [_on_all(shown, name, main=number == 0) for number, name in enumerate(names)]
    return [*found, *_of_service(shown, current)]


def _on_all(shown: ShownIncident, name: Action, *, main: bool) -> Button:
    spec = actions.get(name)
    label = gettext("retry all") if name == Action.RETRY else spec.label_on(None, nouns.shared())
    url = reverse("admin:sagas_incident_decide", args=[shown.id, name.value])
    return Button(action=name, label=label, url=url, kind="main" if main else "danger" if spec.behind_more else "")


def _of_service(shown: ShownIncident, current: Switches) -> list[Button]:
    """Return the button that pauses or resumes the service of an incident of commands."""
    kind, service = shown.kind.name, shown.facets.get("service", "")
    if kind == "breaker":
        return [_sending(Action.RESUME_PUBLISHING, gettext("resume sending"), "main", service=service, only="breaker")]
    if kind == "paused":
        target = {} if service == switches.EVERYTHING else {"service": service, "only": "switch"}
        return [_sending(Action.RESUME_PUBLISHING, gettext("resume sending"), "main", **target)]
    is_of_commands = kind == "never_answered" or incidents.target_of(kind) == "commands"
    if not is_of_commands or not service or current.pause_of(service) is not None:
        return []
    return [_sending(Action.PAUSE_PUBLISHING, gettext("pause the service"), "", service=service)]


def _sending(action: Action, label: str, kind: str, **target: str) -> Button:
    return Button(action=action, label=label, url=formatting.decide_url(action.value, **target), kind=kind)


# The size of a trend in the units of its own drawing; the stylesheet decides how large it is shown.
WIDTH, HEIGHT = 120, 24


def trend(counts: Sequence[int]) -> SafeString | str:
    """Draw how many cases each part of the last hour brought, as a line; empty without counts."""
    if not counts:
        return ""
    most = max(*counts, 1)
    step = WIDTH / (len(counts) - 1)
    points = " ".join(
        f"{number * step:.1f},{HEIGHT - 1 - count * (HEIGHT - 2) / most:.1f}" for number, count in enumerate(counts)
    )
    total = sum(counts)
    text = ngettext("%(count)d in the last hour", "%(count)d in the last hour", total) % {"count": total}
    return format_html(
        '<svg class="sg-trend" viewBox="0 0 {} {}" role="img" preserveAspectRatio="none"><title>{}</title>'
        '<polyline points="{}" fill="none" stroke="currentColor" stroke-width="1.5"'
        ' vector-effect="non-scaling-stroke"/></svg>',
        WIDTH,
        HEIGHT,
        text,
        points,
    )


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    own_parameters = ("page",)
    list_title = _("incidents that have ended")

    def own_urls(self) -> list[URLPattern]:
        return [self.own_path("<uuid:incident>/decide/<slug:action>/", self.decide_view, "decide")]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the current user may see incidents; each kind also needs the right of its rows."""
        return may(request, VIEW_SAGAS)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the incidents that have ended, the last one first."""
        self.need_view(request)
        page = incidents.ended((number_of(request, "page") - 1) * ENDED, ENDED, kinds=kinds_of(request))
        context = {
            "title": self.list_title,
            "part": from_page(request, "page", page),
            "lines": lines(request, page.items),
        }
        return self.draw(request, "sagas/admin/incidents_ended.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one incident, current or ended, with all that people wrote about it."""
        self.need_view(request)
        identity = saga_id(object_id)
        found = self._find(request, identity) if identity is not None else None
        if found is None:
            raise Http404(gettext("There is no such incident (any more)."))
        [line] = lines(request, [found])
        context = {
            "title": found.title,
            "line": line,
            "notes": incidents.history(found.id),
            "actions": [*line.buttons, *self._own_buttons(request, found)],
        }
        return self.draw(request, "sagas/admin/incident.html", context)

    def decide_view(self, request: HttpRequest, incident: UUID, action: str) -> HttpResponse:
        """Show the page of a decision on exactly the cases that the incident has now."""
        self.need_view(request)
        found = self._find(request, incident)
        if found is None or action not in _DECISIONS.get(found.kind.name, ()):
            raise Http404(gettext("There is no such decision."))
        target = incidents.target_of(found.kind.name)
        assert target is not None
        ids = incidents.targets_of(found.kind.name, found.facets, clock.now())
        rows = _ROWS[target].objects.filter(pk__in=ids).order_by("pk")
        if not rows.exists():
            messages.info(request, gettext("This incident has ended: nothing is left to decide."))
            return HttpResponseRedirect(incident_url(found.id))
        selection = {"filter": {"incident": str(found.id)}}
        page = chosen.ask_about_rows(self, request, actions.get(action), rows, selection)
        return page or HttpResponseRedirect(_cases_url(request, found) or incident_url(found.id))

    def _find(self, request: HttpRequest, incident: UUID) -> ShownIncident | None:
        return incidents.find(incident, kinds=kinds_of(request), payload=may_view_payload(request))

    def _own_buttons(self, request: HttpRequest, found: ShownIncident) -> list[Button]:
        """Return the decisions on the incident itself."""
        if not may_operate(request):
            return []
        names = (Action.ACKNOWLEDGE_INCIDENT, Action.ASSIGN_INCIDENT, Action.NOTE_INCIDENT)
        specs = [actions.get(name) for name in names if found.ended_at is None or name != Action.ACKNOWLEDGE_INCIDENT]
        return [
            Button(
                action=spec.name,
                label=spec.label_on(None, nouns.shared()),
                url=formatting.decide_url(spec.name, incident=found.id),
            )
            for spec in specs
        ]
