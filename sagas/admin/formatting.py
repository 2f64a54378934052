"""Formatting for the pages: colours of states, times, ages, links."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext


class RowButton(Protocol):
    """A decision that a row of a list offers (`sagas.admin.buttons.Button`)."""

    @property
    def label(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def kind(self) -> str: ...


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


# Longer ids are shown by their first letters.
LONGEST_ID = 13
UUIDS = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


def badge(value: str, label: Any = None, tone: str | None = None) -> SafeString:
    """Return a coloured label; it is readable without the colour too."""
    return format_html(
        '<span class="sg-badge sg-{}">{}</span>', tone or TONES.get(value, "plain"), value if label is None else label
    )


def at(moment: datetime | None) -> SafeString | str:
    """Format a time in UTC, to the second, with its zone. A line may break between date and time only."""
    if moment is None:
        return "–"
    utc = moment.astimezone(UTC)
    return format_html(
        '<time class="sg-time" datetime="{}">{}&nbsp;UTC</time>', utc.isoformat(), utc.strftime("%Y-%m-%d %H:%M:%S")
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


def ago(moment: datetime, now: datetime) -> SafeString:
    """Format how long ago a moment was; the page's script keeps it current."""
    return _moving("ago", moment, now, _("%(age)s ago") % {"age": age(now - moment)})


def waiting_since(moment: datetime, now: datetime) -> SafeString:
    """Format the span from a moment until now; the page's script keeps it current."""
    return _moving("span", moment, now, age(now - moment))


def _moving(kind: str, moment: datetime, now: datetime, text: str) -> SafeString:
    """Return an age with its seconds by our clock: the browser's may be wrong."""
    utc = moment.astimezone(UTC)
    return format_html(
        '<time class="sg-age" data-age="{}" data-seconds="{}" datetime="{}" title="{} UTC">{}</time>',
        kind,
        max(0, int((now - moment).total_seconds())),
        utc.isoformat(),
        utc.strftime("%Y-%m-%d %H:%M:%S"),
        text,
    )


def is_long(value: Any) -> bool:
    """Return whether an id is shown by its first letters."""
    return len(str(value)) > LONGEST_ID


def short(value: Any) -> str:
    """Return the first letters of an id, enough to tell it from its neighbours."""
    text = str(value)
    return f"{text[:8]}…" if is_long(text) else text


def heading(value: Any) -> str:
    """Return a title with a capital, except for an id, which keeps its letters."""
    text = str(value)
    return text if UUIDS.fullmatch(text) else capfirst(text)


def short_id(value: Any, target: str = "") -> SafeString | str:
    """Return the first letters of an id, as a link to `target` if there is one, with a button that copies all of it."""
    text = str(value)
    if not text:
        return "–"
    shown = format_html('<span class="sg-id" title="{}">{}</span>', text, short(text))
    if target:
        shown = link(target, shown)
    return format_html('<span class="sg-nowrap">{}{}</span>', shown, copy_button(text)) if is_long(text) else shown


def short_ids(text: str) -> SafeString:
    """Return a text in which each id is shown by its first letters, with a button that copies it."""
    parts = UUIDS.split(text)
    return format_html_join("", "{}", ((short_id(part) if at % 2 else part,) for at, part in enumerate(parts)))


def whole_id(value: Any) -> SafeString | str:
    """Return an id in full, with a button that copies it."""
    text = str(value or "")
    return format_html('<span class="sg-id">{}</span>{}', text, copy_button(text)) if text else "–"


def copy_button(text: str) -> SafeString:
    """Return a button that copies a text; the page's script does it, and without a script there is no button."""
    name = _("Copy %(text)s") % {"text": text}
    return format_html(
        '<button type="button" class="sg-copy" data-copy="{}" aria-label="{}" title="{}" hidden></button>',
        text,
        name,
        name,
    )


def link(target: str, text: Any, name: Any = "") -> SafeString:
    """Return a link to another page of the admin; `name` tells it from links with the same text, unseen."""
    return format_html('<a class="sg-link" href="{}">{}{}</a>', target, text, hidden(name))


def hidden(name: Any) -> SafeString | str:
    """Return a text for those who hear the page."""
    return format_html('<span class="sg-hidden"> {}</span>', name) if name else ""


def row_buttons(buttons: Iterable[RowButton], name: str) -> SafeString:
    """Return the decisions in a row of a list, as links that differ by the row's name for those who hear them."""
    links = (
        (button.url, f"sg-{button.kind}" if button.kind == "danger" else "", capfirst(button.label), hidden(name))
        for button in buttons
    )
    template = '<a class="sg-button sg-row {1}" href="{0}">{2}…{3}</a>'
    return format_html('<span class="sg-row-buttons">{}</span>', format_html_join("", template, links))


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
