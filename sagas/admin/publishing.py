"""Sending commands: whether commands are sent, what waits, and the buttons to pause and resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext_lazy as _

from compensation import deadlines, switches
from compensation.models import UNSENT, BreakerState, Command, CommandStatus, Switch
from sagas import actions
from sagas.actions import Action
from sagas.admin import buttons, formatting
from sagas.admin.paginator import CAP
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.rights import may_operate
from sagas.queries import holding


@admin.register(Switch)
class SwitchAdmin(ReadOnlyAdmin):
    list_title = _("sending commands")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show all services with their switches."""
        self.need_view(request)
        holds = deadlines.deadline_holds()
        current = holds.switches
        rows = current.rows
        names = sorted({*actions.services(), *rows, *current.breakers} - {switches.EVERYTHING})
        context = {
            "title": self.list_title,
            "everything": _line(switches.EVERYTHING, rows, current, request),
            "services": [_line(name, rows, current, request) for name in names],
            "withdraw_url": formatting.decide_url(Action.WITHDRAW.value)
            if may_operate(request) and actions.is_anything_unsent()
            else "",
            "cap": CAP,
            "limit": settings.SAGA_BREAKER_COMMANDS,
            "pauses": current.pauses,
            "on_hold": holding.of_service(switches.EVERYTHING, holds),
        }
        return self.draw(request, "sagas/admin/publishing.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Redirect to the list, which shows the switch."""
        self.need_view(request)
        return HttpResponseRedirect(formatting.list_url("compensation_switch"))


def _line(name: str, rows: Mapping[str, Switch], current: switches.Switches, request: HttpRequest) -> dict[str, Any]:
    switch = rows.get(name)
    paused = bool(switch and switch.paused)
    service = "" if name == switches.EVERYTHING else name
    return {
        "name": service,
        "switch": switch,
        "paused": paused,
        "paused_by_all": bool(service) and current.everything_paused,
        "breaker": _breaker(service, current, request),
        "waiting": _count(service, *UNSENT),
        "sent": _count(service, CommandStatus.PUBLISHING, CommandStatus.PUBLISHED),
        "exhausted": _count(service, CommandStatus.EXHAUSTED),
        "button": next(iter(buttons.of_switch(service or None, current)), None) if may_operate(request) else None,
    }


def _breaker(service: str, current: switches.Switches, request: HttpRequest) -> dict[str, Any] | None:
    """Return the row for the circuit breaker of a service; None if it is closed."""
    row = current.breakers.get(service)
    if row is None or row.state == BreakerState.CLOSED:
        return None
    is_open = row.state == BreakerState.OPEN
    return {
        "row": row,
        "is_open": is_open,
        "text": holding.breaker_text(row) if is_open else holding.canary_text(row),
        "button": next(iter(buttons.of_breaker(service, current)), None) if may_operate(request) else None,
    }


def _count(service: str, *statuses: str) -> int:
    """Count commands up to CAP, by the index of the open ones."""
    found = Command.objects.filter(status__in=statuses)
    return (found.filter(service=service) if service else found).order_by()[:CAP].count()
