"""Formatting for the pages: colours of states, times, ages, links."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

# Red: look at it first. Blue: continues automatically. Green or grey: finished.
TONES = {
    "STARTED": "info",
    "COMPLETED": "good",
    "FAILED": "warn",
    "COMPENSATING": "info",
    "COMPENSATION_SUCCEEDED": "good",
    "COMPENSATION_FAILED": "bad",
    "COMPENSATED": "good",
    "open": "info",
    "processed": "good",
    "undoing": "info",
    "undone": "good",
    "settled": "plain",
    "planned": "plain",
    "publishing": "info",
    "published": "info",
    "waiting": "warn",
    "confirmed": "good",
    "exhausted": "bad",
    "skipped": "plain",
    "withdrawn": "plain",
    "refused": "warn",
    "deadline": "warn",
    "failed": "warn",
    "unreachable": "plain",
    "blocked": "warn",
    "superseded": "plain",
    "requeued": "good",
    "dismissed": "plain",
}


def badge(value: str, label: Any = None, tone: str | None = None) -> SafeString:
    """Return a coloured label; it is readable without the colour too."""
    return format_html(
        '<span class="sg-badge sg-{}">{}</span>', tone or TONES.get(value, "plain"), value if label is None else label
    )


def at(moment: datetime | None) -> SafeString | str:
    """Format a time in UTC, to the second."""
    if moment is None:
        return "–"
    utc = moment.astimezone(UTC)
    return format_html(
        '<time class="sg-time" datetime="{}">{}</time>', utc.isoformat(), utc.strftime("%Y-%m-%d %H:%M:%S")
    )


def age(span: timedelta) -> str:
    """Format a span in its largest unit."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return ngettext("%(n)d second", "%(n)d seconds", seconds) % {"n": seconds}
    if seconds < 3600:
        return ngettext("%(n)d minute", "%(n)d minutes", seconds // 60) % {"n": seconds // 60}
    if seconds < 86400:
        return ngettext("%(n)d hour", "%(n)d hours", seconds // 3600) % {"n": seconds // 3600}
    return ngettext("%(n)d day", "%(n)d days", seconds // 86400) % {"n": seconds // 86400}


def ago(moment: datetime, now: datetime) -> str:
    """Format how long ago a moment was."""
    return _("%(age)s ago") % {"age": age(now - moment)}


def link(target: str, text: Any) -> SafeString:
    """Return a link to another page of the admin."""
    return format_html('<a class="sg-link" href="{}">{}</a>', target, text)


def saga_url(saga_id: Any) -> str:
    return reverse("admin:sagas_sagalog_change", args=[saga_id])


def command_url(command_id: Any) -> str:
    return reverse("admin:compensation_command_change", args=[command_id])


def lane_url(saga_id: Any, entity: str) -> str:
    return reverse("admin:sagas_sagalog_lane", args=[saga_id]) + "?" + urlencode({"lane": entity})


def list_url(name: str, **wanted: Any) -> str:
    """Return the URL of a list with filters."""
    return reverse(f"admin:{name}_changelist") + (f"?{urlencode(wanted)}" if wanted else "")


def parked_url(stream: str, key: str, entity: str) -> str:
    return reverse("admin:sagas_parked_group") + "?" + urlencode({"stream": stream, "key": key, "entity": entity})


def decide_url(action: str, **target: Any) -> str:
    """Return the URL of a decision's page."""
    return reverse("admin:sagas_decision_decide", args=[action]) + (f"?{urlencode(target)}" if target else "")
