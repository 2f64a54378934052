"""Template tags and filters: formatting, labels and error texts of the admin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.safestring import SafeString

from compensation import switches
from compensation.models import Attempt, Command
from compensation.switches import Pause
from sagas.admin import formatting, rights
from sagas.admin.buttons import Button
from sagas.error_text import shown_attempt, shown_error, shown_text
from sagas.queries.holding import pause_text

register = template.Library()

register.simple_tag(formatting.badge)
register.filter("at", formatting.at)
register.filter("heading", formatting.heading)
register.filter("short", formatting.short)
register.filter("whole_id", formatting.whole_id)
register.simple_tag(formatting.short_id)
register.simple_tag(formatting.copy_button)
register.simple_tag(formatting.saga_url)
register.filter("saga_url", formatting.saga_url)
register.filter("command_url", formatting.command_url)
register.simple_tag(formatting.lane_url)
register.simple_tag(formatting.list_url)
register.simple_tag(formatting.parked_url)
register.simple_tag(formatting.decide_url)


@register.simple_tag(name="pause_words")
def paused(pause: Pause, with_reason: bool = True) -> str:
    """Return what a switch or circuit breaker pauses, since when, by whom and why."""
    return pause_text(pause, reason=with_reason)


@register.inclusion_tag("sagas/admin/banner.html", takes_context=True)
def publishing_banner(context: Mapping[str, Any]) -> dict[str, Any]:
    """Show what is paused, to staff; the reason only to those who may see sagas. One query."""
    request = context.get("request")
    if request is None or not getattr(request, "user", None) or not request.user.is_staff:
        return {}
    return {
        "pauses": switches.peek().pauses,
        "with_reason": rights.may(request, rights.VIEW_SAGAS),
        "may_see_switches": rights.may(request, rights.VIEW_PUBLISHING),
    }


@register.filter
def ago(moment: datetime) -> SafeString:
    """Return how long ago a moment was."""
    return formatting.ago(moment, timezone.now())


@register.filter(name="shown_text")
def text_of_a_service(text: str | None, may_view_payload: object) -> str:
    """Return an error text of a service as the reader may see it."""
    return shown_text(text, payload=may_view_payload is True)


@register.filter(name="shown_error")
def error_of_a_command(command: Command, may_view_payload: object) -> str:
    """Return a command's last error as the reader may see it."""
    return shown_error(command.last_error, command.last_error_data, payload=may_view_payload is True)


@register.filter
def attempt_error(attempt: Attempt, may_view_payload: object) -> str:
    """Return the error of an attempt as the reader may see it."""
    return shown_attempt(attempt, payload=may_view_payload is True)


@register.filter
def destructive(buttons: Sequence[Button]) -> list[Button]:
    """Return the buttons that are behind "More"."""
    return [button for button in buttons if button.kind == "danger"]


@register.filter
def tone(value: str) -> str:
    """Return the colour of a state."""
    return formatting.TONES.get(value, "plain")
