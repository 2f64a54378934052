"""The start page: incidents, or each item that needs attention; numbers of the last hour, sagas by status, health."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from sagas import incidents, queries
from sagas.admin import formatting, health, incident, rights
from sagas.admin.pagination import from_page, number_of
from sagas.attention_kinds import BY_NAME
from sagas.models import SagaStatusChoice
from sagas.queries import Attention, AttentionItem
from sagas.queries.throughput import throughput

ITEMS = 50
COUNTS_SECONDS = 5


def context(request: HttpRequest, around: dict[str, Any]) -> dict[str, Any]:
    """Return the start page's context, limited to what the person may see: incidents, or all items one by one.

    About 45 queries; each count of sagas is capped.
    """
    if not rights.may(request, rights.VIEW_SAGAS):
        return {**around, "title": _("Start"), "no_rights": True}
    shown = _items(request) if "kind" in request.GET or "page" in request.GET else _incidents(request)
    return {
        **around,
        "title": _("Needs attention"),
        "counts": _counts(),
        "parts": health.parts(),
        **shown,
    }


def _incidents(request: HttpRequest) -> dict[str, Any]:
    """Return the current incidents, and how much the service does."""
    page = incidents.listed(
        (number_of(request, "incidents") - 1) * ITEMS,
        ITEMS,
        kinds=incident.kinds_of(request),
        payload=rights.may_view_payload(request),
    )
    return {
        "incidents": from_page(request, "incidents", page),
        "incident_lines": incident.lines(request, page.items),
        "open_incidents": page.open,
        "updated_at": page.now,
        "throughput": _throughput(page.now),
    }


def _throughput(now: datetime) -> dict[str, Any]:
    """Return the numbers of the last hour, at most COUNTS_SECONDS old."""
    found: Any = cache.get_or_set("sagas.admin.throughput", throughput, COUNTS_SECONDS)
    return {
        "events": found.events[-2],
        "events_trend": incident.trend(found.events),
        "ended": found.ended[-2],
        "ended_trend": incident.trend(found.ended),
        "backlog": found.backlog,
        "oldest": formatting.age(now - found.oldest) if found.oldest else "",
    }


def _items(request: HttpRequest) -> dict[str, Any]:
    """Return what needs attention one by one, of all kinds or of one."""
    kind = request.GET.get("kind", "")
    kind = kind if kind in BY_NAME else ""
    page = queries.attention(
        (number_of(request, "page") - 1) * ITEMS,
        ITEMS,
        kind=kind,
        kinds=rights.attention_of(request),
        payload=rights.may_view_payload(request),
    )
    may_see_commands = rights.may(request, rights.VIEW_COMMANDS)
    return {
        "attention": from_page(request, "page", page),
        "chosen": kind,
        "kinds": _kinds(page, kind),
        "lines": [_line(item, may_see_commands) for item in page.items],
    }


def _kinds(page: Attention, chosen: str) -> list[dict[str, Any]]:
    """Return the number of items of each kind, most severe first, each with the link to its own list."""
    top = reverse("admin:index")
    total = sum(page.by_kind.values())
    found = [{"kind": "", "label": _("all"), "tone": "plain", "count": total, "url": f"{top}?kind=all#page"}]
    found += [
        {
            "kind": kind,
            **_badge(kind),
            "count": count,
            "url": f"{top}?kind={kind}#page",
        }
        for kind, count in page.by_kind.items()
        if count
    ]
    return [{**line, "chosen": line["kind"] == chosen} for line in found] if total else []


def _badge(kind: str) -> dict[str, Any]:
    return {"label": BY_NAME[kind].label, "tone": "bad" if BY_NAME[kind].red else "warn"}


def _line(item: AttentionItem, may_see_commands: bool) -> dict[str, Any]:
    return {
        "item": item,
        **_badge(item.kind),
        "age": formatting.waiting_since(item.since, timezone.now()),
        "url": _url(item, may_see_commands),
    }


def _url(item: AttentionItem, may_see_commands: bool) -> str:
    """Return the page of the item; empty if there is none that the reader may see."""
    link = item.link
    if item.kind in ("exhausted", "overdue", "overtaken") and may_see_commands:
        return formatting.list_url("compensation_command", saga=link["saga"], status=link["status"])
    if item.kind == "confirmed_unsent" and may_see_commands:
        return formatting.list_url("compensation_command", saga=link["saga"], confirmed_unsent="yes")
    if item.kind == "held" and may_see_commands:
        return formatting.list_url("compensation_command", saga=link["saga"], held=link["held"])
    if item.kind == "never_answered" and may_see_commands:
        return formatting.list_url("compensation_command", service=link["service"])
    if item.kind == "parked":
        return formatting.parked_url(link["stream"], link["key"], link["entity"])
    if item.kind == "quarantined":
        return formatting.list_url("bridge_quarantined", code=link["code"], status=link["status"])
    if item.kind == "counted":
        return formatting.list_url("bridge_quarantined", status=link["status"])
    if item.kind in ("paused", "blocked", "breaker"):
        return formatting.list_url("compensation_switch")
    return formatting.saga_url(item.saga_id) if item.saga_id else ""


def _counts() -> list[dict[str, Any]]:
    """Return the number of sagas by status, at most COUNTS_SECONDS old."""
    counts: Any = cache.get_or_set("sagas.admin.status_counts", queries.status_counts, COUNTS_SECONDS)
    return [
        {
            "status": status,
            "label": SagaStatusChoice(status).label,
            "count": number,
            "more": counts.is_more(status),
            "url": formatting.list_url("sagas_sagalog", status=status),
        }
        for status, number in counts.by_status.items()
    ]
