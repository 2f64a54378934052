"""Decisions on incidents: acknowledge, assign, note. They change nothing but what people see of the incident."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.utils.translation import gettext as _

from bridge import instants
from sagas import targets
from sagas.actions.action import ActionContext, ActionRequest, ActionResult, carry_out
from sagas.actions.spec import ActionSpec, Refusal, Values
from sagas.errors import Invalid, NotFound
from sagas.models import Incident, IncidentEntry, IncidentNote


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An incident as it is stored."""

    row: Incident


def may_acknowledge(view: IncidentView) -> Refusal:
    """Refuse for an incident that has ended: nothing of it is on the start page."""
    return _("this incident has ended") if view.row.ended_at is not None else None


def may_write(_view: IncidentView) -> Refusal:
    """Allow it also for an incident that has ended: owner and notes stay if it comes again."""
    return None


def acknowledge(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Acknowledge an incident until a time, or end its acknowledgement (`until` is None).

    values: `incident`, `until`. Opens its own transaction. Raises NotFound, Refused, Invalid (a time in the past).
    """
    until = values.get("until")

    def work(context: ActionContext) -> None:
        row = _locked(values["incident"])
        spec.check(IncidentView(row))
        if until is not None and until <= context.now:
            raise Invalid(_("the time until which it is acknowledged must be in the future"))
        changed = {"acknowledged_until": until, "acknowledged_by": request.actor if until else ""}
        Incident.objects.filter(id=row.id).update(**changed)
        text = instants.for_programs(until) if until else ""
        _write(context, row, IncidentEntry.ACKNOWLEDGE, text)
        context.effects["acknowledged_until"] = text or None

    return _carry_out(spec, values, request, work)


def assign(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Set the owner of an incident; nobody if `owner` is None.

    values: `incident`, `owner`. Opens its own transaction. Raises NotFound, Invalid (there is no such login).
    """
    owner = values.get("owner") or ""

    def work(context: ActionContext) -> None:
        row = _locked(values["incident"])
        spec.check(IncidentView(row))
        if owner and not get_user_model().objects.filter(username=owner, is_active=True).exists():
            raise Invalid(_("there is no active login %(name)s") % {"name": owner})
        Incident.objects.filter(id=row.id).update(owner=owner)
        _write(context, row, IncidentEntry.ASSIGN, owner)
        context.effects["owner"] = owner or None

    return _carry_out(spec, values, request, work)


def note(spec: ActionSpec, values: Values, request: ActionRequest) -> ActionResult:
    """Add a note to an incident: the reason. values: `incident`. Opens its own transaction. Raises NotFound."""

    def work(context: ActionContext) -> None:
        row = _locked(values["incident"])
        spec.check(IncidentView(row))
        _write(context, row, IncidentEntry.NOTE, "")

    return _carry_out(spec, values, request, work)


def _carry_out(spec: ActionSpec, values: Values, request: ActionRequest, work: Any) -> ActionResult:
    return carry_out(spec.name, targets.of_incident(values["incident"]), request, work)


def _locked(incident: UUID) -> Incident:
    """Return the row, locked for the rest of the caller's transaction. Raises NotFound."""
    row = Incident.objects.select_for_update().filter(id=incident).first()
    if row is None:
        raise NotFound(_("Incident with ID %(id)s not found") % {"id": incident})
    return row


def _write(context: ActionContext, row: Incident, entry: IncidentEntry, value: str) -> None:
    IncidentNote.objects.create(
        incident=row,
        entry=entry,
        author=context.request.actor,
        written_at=context.now,
        text=context.request.reason,
        value=value,
    )
