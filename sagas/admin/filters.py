"""Filters of the lists. Each uses an index, or a table that only people's decisions fill."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.contrib.admin import ListFilter, SimpleListFilter
from django.contrib.admin.options import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from bridge import clock
from compensation.models import CommandStatus, ExhaustedBy
from sagas import actions, incidents, nouns
from sagas.definitions import registry
from sagas.incidents.cases import CaseTarget
from sagas.models import Decision, SagaStatusChoice
from sagas.queries.ids import saga_id


def made_by_hand() -> QuerySet[Decision]:
    """Return the decisions after which a saga's outcome does not come from the services alone."""
    return Decision.objects.filter(action__in=[spec.name for spec in actions.ACTIONS.values() if spec.by_hand])


class _Choice(SimpleListFilter):
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset if value is None else self.narrow(queryset, value)

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Return the rows that match the chosen value."""
        raise NotImplementedError


class StatusFilter(_Choice):
    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return SagaStatusChoice.choices

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(status=value)


class CommandStatusFilter(StatusFilter):
    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return CommandStatus.choices


class AgeFilter(_Choice):
    title = _("age")
    parameter_name = "age"
    SPANS = {
        "hour": timedelta(hours=1),
        "day": timedelta(days=1),
        "week": timedelta(days=7),
        "month": timedelta(days=30),
    }

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return (
            ("hour", _("last hour")),
            ("day", _("last day")),
            ("week", _("last 7 days")),
            ("month", _("last 30 days")),
            ("older", _("older than 30 days")),
        )

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        now = timezone.now()
        if value == "older":
            return queryset.filter(start_time__lt=now - self.SPANS["month"])
        return queryset.filter(start_time__gte=now - self.SPANS[value]) if value in self.SPANS else queryset.none()


class TypeFilter(_Choice):
    title = _("type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return nouns.titles().items()

    def has_output(self) -> bool:
        return len(registry.current_definitions()) > 1 or self.value() is not None

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(saga_type=value)


class SetAsideFilter(_Choice):
    title = _("blocked by an error")
    parameter_name = "set_aside"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return (("yes", _("blocked by an error")),)

    def has_output(self) -> bool:
        return True

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(set_aside_at__isnull=False)


class ByHandFilter(_Choice):
    title = _("manual")
    parameter_name = "by_hand"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return (("yes", _("manually changed")),)

    def has_output(self) -> bool:
        return True

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        # From the audit: people decide on a few hundred sagas, however many there are.
        return queryset.filter(id__in=made_by_hand().filter(saga__isnull=False).values("saga"))


class ConfirmedUnsentFilter(_Choice):
    title = _("confirmed, never sent")
    parameter_name = "confirmed_unsent"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return (("yes", _("by an event, although never sent")),)

    def has_output(self) -> bool:
        return True

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(confirmed_unsent_at__isnull=False)


class HeldFilter(_Choice):
    title = _("held")
    parameter_name = "held"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return (("yes", _("held for a decision")),)

    def has_output(self) -> bool:
        return True

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(status=CommandStatus.PLANNED, held_since__isnull=False)


class ServiceFilter(_Choice):
    title = _("service")
    parameter_name = "service"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return [(name, name) for name in actions.services()]

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(service=value)


class ExhaustedByFilter(_Choice):
    title = _("reason for the decision")
    parameter_name = "exhausted_by"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return ExhaustedBy.choices

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(exhausted_by=value, status=CommandStatus.EXHAUSTED)


class SagaOfFilter(_Choice):
    """Set by links ("the commands of this saga"); offers only the chosen saga."""

    title = _("saga")
    parameter_name = "saga"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        value = request.GET.get(self.parameter_name)
        return ((value, value),) if value else ()

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        found = saga_id(value)
        return queryset.none() if found is None else queryset.filter(saga_id=found)


class IncidentFilter(_Choice):
    """Set by links ("the cases of this incident"); offers only the chosen incident.

    Only lists of what its cases are match any: a saga is no case of an incident of commands.
    """

    title = _("incident")
    parameter_name = "incident"
    target: CaseTarget

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        value = request.GET.get(self.parameter_name)
        return ((value, value),) if value else ()

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        identity = saga_id(value)
        found = incidents.cause_of(identity) if identity is not None else None
        if found is None or incidents.target_of(found[0]) != self.target:
            return queryset.none()
        return queryset.filter(pk__in=incidents.targets_of(*found, clock.now()))


class IncidentOfCommandsFilter(IncidentFilter):
    target = "commands"


class IncidentOfSagasFilter(IncidentFilter):
    target = "sagas"


class IncidentOfMessagesFilter(IncidentFilter):
    target = "messages"


class ActionFilter(_Choice):
    title = _("action")
    parameter_name = "action_taken"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return [(name, actions.label_of(name)) for name in (*actions.ACTIONS, *actions.JobAction)]

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(action=value)


Filters = list[type[ListFilter]]
