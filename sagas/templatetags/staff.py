"""The words of `sagas.admin.words`, for templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone

from compensation import switches
from compensation.models import Switch
from sagas.admin import rights, words
from sagas.admin.buttons import Button
from sagas.queries.holding import pause_words

register = template.Library()

register.simple_tag(words.badge)
register.filter("at", words.at)
register.filter("saga_url", words.saga_url)
register.filter("command_url", words.command_url)
register.simple_tag(words.lane_url)
register.simple_tag(words.list_url)
register.simple_tag(words.parked_url)
register.simple_tag(words.decide_url)


@register.simple_tag(name="pause_words")
def paused(switch: Switch, with_reason: bool = True) -> str:
    """What a switch pauses, since when, by whom and why."""
    return pause_words(switch, reason=with_reason)


@register.inclusion_tag("sagas/admin/banner.html", takes_context=True)
def publishing_banner(context: Mapping[str, Any]) -> dict[str, Any]:
    """What is paused, for staff; the reason only for those who may see sagas. One query."""
    request = context.get("request")
    if request is None or not getattr(request, "user", None) or not request.user.is_staff:
        return {}
    return {
        "pauses": switches.peek().pauses,
        "with_reason": rights.may(request, rights.VIEW_SAGAS),
        "may_see_switches": rights.may(request, rights.VIEW_PUBLISHING),
    }


@register.filter
def ago(moment: datetime) -> str:
    """How long a moment is past."""
    return words.ago(moment, timezone.now())


@register.filter
def destructive(buttons: Sequence[Button]) -> list[Button]:
    """The buttons that are behind "More"."""
    return [button for button in buttons if button.kind == "danger"]


@register.filter
def tone(value: str) -> str:
    """The colour of a state."""
    return words.TONES.get(value, "plain")


@register.filter
def short(value: Any) -> str:
    """The first letters of an id, enough to tell it from its neighbours."""
    text = str(value)
    return text if len(text) <= 13 else f"{text[:8]}…"
