"""Unreadable messages: the reason, and their bytes, shown and never interpreted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from bridge import quarantine
from bridge.models import QuarantineCode, Quarantined, QuarantineStatus
from sagas import actions
from sagas.actions import Action, MessageView, Target
from sagas.admin import buttons, chosen, formatting
from sagas.admin.filters import IncidentOfMessagesFilter
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.rights import may_operate, may_view_payload

# Bytes shown on a page; the row has the rest.
SHOWN_BYTES = 4096
PER_LINE = 16


class CodeFilter(SimpleListFilter):
    title = _("reason")
    parameter_name = "code"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return QuarantineCode.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(code=self.value()) if self.value() else queryset


class DecidedFilter(SimpleListFilter):
    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> Iterable[tuple[str, Any]]:
        return QuarantineStatus.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(status=self.value()) if self.value() else queryset


@admin.register(Quarantined)
class QuarantinedAdmin(ReadOnlyAdmin):
    list_display = ("why", "state", "topic", "received", "decided")
    list_display_links = None
    list_filter = (DecidedFilter, CodeFilter, IncidentOfMessagesFilter)
    ordering = ("-id",)
    page_template = "sagas/admin/quarantined.html"
    list_before_template = "sagas/admin/quarantine_counts.html"
    list_after_template = chosen.ALL_MATCHING

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, and above it the messages that were only counted."""
        rows = quarantine.counted_beside_open()
        why = dict(QuarantineCode.choices)
        counted = [{**row, "why": why[row["last_code"]]} for row in rows]
        page: HttpResponse = super().changelist_view(request, {**(extra_context or {}), "counted": counted})
        return page

    def get_queryset(self, request: HttpRequest) -> QuerySet[Quarantined]:
        return Quarantined.objects.defer("body", "body_hash", "properties")

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        """Return the decisions on messages; the bytes of each tell only at its check whether it can be requeued.

        Django 6.1 passes action_location, and warns about a method that does not name it.
        """
        specs = actions.of_target(Target.MESSAGE)
        return chosen.decisions(request, specs, specs)

    @admin.display(description=_("reason"))
    def why(self, message: Quarantined) -> SafeString:
        text = message.reason_text
        shown = text if len(text) <= 120 else text[:119] + "…"
        return formatting.link(reverse("admin:bridge_quarantined_change", args=[message.pk]), shown, message.pk)

    @admin.display(description=_("status"))
    def state(self, message: Quarantined) -> SafeString:
        tone = "warn" if message.status == QuarantineStatus.OPEN else None
        return formatting.badge(message.status, message.get_status_display(), tone)

    @admin.display(description=_("received"))
    def received(self, message: Quarantined) -> Any:
        return formatting.at(message.received_at)

    @admin.display(description=_("decided by"))
    def decided(self, message: Quarantined) -> str:
        return message.decided_by or "–"

    def page(self, request: HttpRequest, row: Quarantined) -> dict[str, Any]:
        possible = actions.possible(MessageView(row))
        shown = may_view_payload(request)
        return {
            "title": row.get_code_display(),
            "state": self.state(row),
            "size": row.full_size,
            "kept": len(row.body),
            "sha256": bytes(row.sha256).hex() if row.sha256 else "",
            "lines": hex_lines(bytes(row.body)) if shown else None,
            "text": as_text(bytes(row.body)) if shown else "",
            "properties": sorted(row.properties.items()) if shown else [],
            "shown_bytes": SHOWN_BYTES,
            "still_unreadable": row.status != QuarantineStatus.REQUEUED and actions.get(Action.REQUEUE) not in possible,
            "actions": buttons.of_message(possible, row.pk) if may_operate(request) else [],
        }


def as_text(body: bytes) -> str:
    """Return the bytes as text. Bytes that are not text or would move the cursor or reverse the line become "·"."""
    text = body[:SHOWN_BYTES].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() or letter == "\n" else "·" for letter in text)


def hex_lines(body: bytes) -> list[tuple[str, str, str]]:
    """Return (offset, bytes in hex, printable ones) for each line."""
    lines = []
    for start in range(0, min(len(body), SHOWN_BYTES), PER_LINE):
        part = body[start : min(start + PER_LINE, SHOWN_BYTES)]
        plain = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append((f"{start:06x}", part.hex(" "), plain))
    return lines
