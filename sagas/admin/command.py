"""Commands: the list with decisions on many, and the page of one with all its attempts."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from bridge import look_up
from bridge.models import Event, Source
from compensation import switches
from compensation.models import SETTLED, UNSENT, Attempt, Command, CommandStatus, ExhaustedBy
from sagas import actions, nouns
from sagas.actions import CommandView, Target
from sagas.admin import buttons, chosen, formatting, search
from sagas.admin.filters import (
    CommandStatusFilter,
    ConfirmedUnsentFilter,
    ExhaustedByFilter,
    HeldFilter,
    IncidentOfCommandsFilter,
    SagaOfFilter,
    ServiceFilter,
)
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.rights import may_operate, may_view_payload
from sagas.error_text import shown_error
from sagas.models import SagaLog
from sagas.nouns import lazy_noun
from sagas.queries import holding
from sagas.queries.holding import OnHold
from sagas.queries.ids import saga_id, spelled

ATTEMPTS = 200
# Of the decisions on one command so many are in its row of the list; its page has all.
BUTTONS = 2
UNDER_WAY = frozenset({CommandStatus.PLANNED, CommandStatus.WAITING, CommandStatus.PUBLISHING, CommandStatus.PUBLISHED})


@admin.register(Command)
class CommandAdmin(ReadOnlyAdmin):
    list_display = ("what", "state", "entity_id", "saga_link", "planned", "error", "decide")
    list_display_links = None
    list_filter = (
        CommandStatusFilter,
        HeldFilter,
        ServiceFilter,
        ExhaustedByFilter,
        ConfirmedUnsentFilter,
        SagaOfFilter,
        IncidentOfCommandsFilter,
    )
    search_fields = ("id",)
    search_help_text = _("Full id of a command, or any full id of its saga")
    page_template = "sagas/admin/command.html"
    list_after_template = chosen.ALL_MATCHING
    list_disable_select_all = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Command]:
        return Command.objects.defer("body", "result", "non_retryable")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Command | None:
        found = saga_id(object_id)
        return Command.objects.filter(id=found).first() if found else None

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list; each command has `on_hold`, its buttons, and its error as this person may see it."""
        found = super().get_changelist_instance(request)
        found.result_list = list(found.result_list)
        holds = holding.read_for(found.result_list)
        payload = may_view_payload(request)
        sagas = _sagas_of(found.result_list) if may_operate(request) else {}
        for command in found.result_list:
            command.on_hold = holding.on_hold(command, holds)
            command.shown_error = shown_error(command.last_error, command.last_error_data, payload=payload)
            possible = buttons.of_command(command, sagas.get(command.saga_id)) if sagas else []
            command.buttons = [button for button in possible if button.kind != "danger"][:BUTTONS]
        return found

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Order by waiting time where something is waited for, else the newest first. The id breaks ties.

        Each uses an index of the first column.
        """
        if request.GET.get("held"):
            return ("held_since", "id")
        status = request.GET.get("status")
        if request.GET.get("saga") or status in UNDER_WAY:
            return ("planned_at", "id")
        if status == CommandStatus.EXHAUSTED:
            return ("settled_at", "id")
        return ("-settled_at", "-id") if status in SETTLED else ("-planned_at", "-id")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        found = saga_id(search_term)
        if found is not None and Command.objects.filter(id=found).exists():
            return queryset.filter(id=found), False
        of_sagas = queryset.filter(saga_id__in=search.saga_ids(search_term))
        entity = spelled(search_term)
        return (of_sagas.filter(entity=entity) if _is_entity(of_sagas, entity) else of_sagas), False

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        """Return the decisions that commands with the list's filters may allow.

        Django 6.1 passes action_location, and warns about a method that does not name it.
        """
        possible = actions.possible(*_views_in_list(request))
        return chosen.decisions(request, actions.of_target(Target.COMMANDS), possible)

    @admin.display(description=_("command"))
    def what(self, command: Command) -> SafeString:
        link = formatting.link(formatting.command_url(command.id), command.name, formatting.short(command.entity))
        return format_html('{}<br><span class="sg-mute sg-small">{}</span>', link, command.service)

    @admin.display(description=_("status"))
    def state(self, command: Command) -> SafeString:
        text = gettext("%(n)d of %(of)d, round %(round)d")
        tried = text % {"n": command.attempt, "of": command.maximum_attempts, "round": command.round}
        badges = states(command, command.on_hold)  # type: ignore[attr-defined]
        return format_html('{}<br><span class="sg-mute sg-small">{}</span>', badges, tried)

    @admin.display(description=lazy_noun("entity_noun"))
    def entity_id(self, command: Command) -> SafeString | str:
        return formatting.short_id(command.entity)

    @admin.display(description=_("planned"))
    def planned(self, command: Command) -> Any:
        return formatting.at(command.planned_at)

    @admin.display(description=_("last error"))
    def error(self, command: Command) -> str:
        text: str = command.shown_error  # type: ignore[attr-defined]
        return text if len(text) <= 120 else text[:119] + "…"

    @admin.display(description=_("saga"))
    def saga_link(self, command: Command) -> SafeString | str:
        return formatting.short_id(command.saga_id, formatting.saga_url(command.saga_id))

    @admin.display(description=_("actions"))
    def decide(self, command: Command) -> SafeString:
        return formatting.row_buttons(command.buttons, formatting.short(command.entity))  # type: ignore[attr-defined]

    def page(self, request: HttpRequest, row: Command) -> dict[str, Any]:
        saga = SagaLog.objects.filter(id=row.saga_id).only("key", "status", "set_aside_at").first()
        hold = holding.on_hold(row)
        return {
            "title": row.name,
            "nouns": nouns.of(row.stream),
            "saga": saga,
            "state": states(row, hold),
            "on_hold": hold,
            "other": SagaLog.objects.filter(id=row.held_by).only("key", "status").first() if row.held_by else None,
            "pause": switches.peek().pause_of(row.service) if row.status in UNSENT else None,
            "confirmed_by": _confirming(row) if row.confirmed_unsent_at else None,
            "attempts": list(Attempt.objects.filter(command=row).order_by("-id")[:ATTEMPTS]),
            "actions": buttons.of_command(row, saga) if may_operate(request) else [],
        }


def _sagas_of(commands: list[Command]) -> dict[Any, SagaLog]:
    """Return the sagas of commands, as far as their decisions depend on them."""
    found = SagaLog.objects.filter(id__in={command.saga_id for command in commands})
    return {saga.id: saga for saga in found.only("key", "status", "set_aside_at")}


def states(command: Command, hold: OnHold | None = None) -> SafeString:
    """Return the badges of a command; `hold` tells why its deadline is on hold, if it is."""
    found = [formatting.badge(command.status, command.get_status_display())]
    if command.held_since:
        found.append(formatting.badge("held", gettext("held"), "bad"))
    if hold:
        found.append(formatting.badge("on_hold", gettext("on hold"), "warn"))
    if command.by_hand:
        found.append(formatting.badge("by_hand", gettext("manual"), "hand"))
    if command.confirmed_unsent_at:
        found.append(formatting.badge("unsent", gettext("never sent"), "warn"))
    return SafeString(" ".join(found))


def _confirming(command: Command) -> Event | None:
    """Return the service's event that confirmed a command."""
    pks = look_up.by_event_id([command.settled_event], [Source.PULSAR]) if command.settled_event else []
    found = Event.objects.filter(id__in=pks, source=Source.PULSAR)
    return found.only("type", "topic", "producer").first()


def _views_in_list(request: HttpRequest) -> list[CommandView]:
    """Return the states that commands with the list's filters may be in."""
    status, reason, of_saga = (request.GET.get(name, "") for name in ("status", "exhausted_by", "saga"))
    held = bool(request.GET.get("held"))
    if (status and status not in CommandStatus.values) or (reason and status not in ("", CommandStatus.EXHAUSTED)):
        return []
    if held and (reason or status not in ("", CommandStatus.PLANNED)):
        return []
    found = saga_id(of_saga) if of_saga else None
    if found is not None and SagaLog.objects.filter(id=found, set_aside_at__isnull=False).exists():
        return []
    status = CommandStatus.PLANNED if held else CommandStatus.EXHAUSTED if reason else status
    return actions.views_in(status, invalid=reason == ExhaustedBy.INVALID)


def _is_entity(commands: QuerySet[Command], entity: str | None) -> bool:
    return entity is not None and commands.filter(entity=entity).exists()
