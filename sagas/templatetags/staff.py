"""The words of `sagas.admin.words`, for templates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone

from sagas.admin import words
from sagas.admin.buttons import Button

register = template.Library()

register.simple_tag(words.badge)
register.filter("at", words.at)
register.filter("saga_url", words.saga_url)
register.filter("command_url", words.command_url)
register.simple_tag(words.lane_url)
register.simple_tag(words.list_url)
register.simple_tag(words.parked_url)
register.simple_tag(words.decide_url)


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
