"""The event log: all events as received. Bodies are shown only with the permission."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from bridge import look_up
from bridge.models import Duplicate, Event, EventReading, Pending, Source
from sagas import nouns, own_facts
from sagas.admin import buttons, formatting
from sagas.admin.readonly import ReadOnlyAdmin
from sagas.admin.rights import may_operate, may_view_payload
from sagas.models import Parked, SagaEvent, SagaLog
from sagas.nouns import fill_lazy, lazy_noun
from sagas.queries.events import of_key
from sagas.queries.ids import spelled
from sagas.queries.timeline import changes

DUPLICATES = 100
MOST = 500


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("what", "own_id", "origin", "key_id", "entity_id", "occurred", "received")
    list_display_links = None
    search_fields = ("id",)
    search_help_text = fill_lazy(
        _("Event id or Pulsar message id, or the first six characters of one; or full %(key_id)s")
    )
    ordering = ("-id",)
    page_template = "sagas/admin/event.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        return Event.objects.defer("payload", "body_hash")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        return queryset.filter(id__in=_found(term)), False

    @admin.display(description=_("type"), ordering="type")
    def what(self, event: Event) -> SafeString:
        page = reverse("admin:bridge_event_change", args=[event.pk])
        return formatting.link(page, own_facts.title(event), formatting.short(event.event_id))

    @admin.display(description=_("event id"))
    def own_id(self, event: Event) -> SafeString | str:
        return formatting.short_id(event.event_id)

    @admin.display(description=_("source"))
    def origin(self, event: Event) -> SafeString:
        return formatting.badge(
            event.source, event.get_source_display(), "plain" if event.source == Source.PULSAR else "info"
        )

    @admin.display(description=lazy_noun("key_id"))
    def key_id(self, event: Event) -> SafeString | str:
        return formatting.short_id(event.key)

    @admin.display(description=lazy_noun("entity_id"))
    def entity_id(self, event: Event) -> SafeString | str:
        return formatting.short_id(event.entity)

    @admin.display(description=_("occurred"))
    def occurred(self, event: Event) -> Any:
        return formatting.at(event.occurred_at)

    @admin.display(description=_("received"))
    def received(self, event: Event) -> Any:
        return formatting.at(event.received_at)

    def page(self, request: HttpRequest, row: Event) -> dict[str, Any]:
        logged = SagaEvent.objects.filter(event=row.pk).first()
        parked = None if logged else Parked.objects.filter(event=row.pk).first()
        suggestion = SagaLog.objects.filter(id=parked.suggestion).first() if parked and parked.suggestion else None
        words = nouns.of(row.stream)
        further = EventReading.objects.filter(event=row.pk).exclude(id=row.pk).order_by("id")
        return {
            "title": own_facts.title(row),
            "nouns": words,
            "logged": logged,
            "saga": SagaLog.objects.filter(id=logged.saga_id).only("key", "status").first() if logged else None,
            "changes": changes(logged.note, words) if logged else [],
            "parked": parked,
            "actions": buttons.of_event(parked, row.event_id, suggestion, main=True)
            if parked and may_operate(request)
            else [],
            "pending": not logged and Pending.objects.filter(id=row.pk).exists(),
            "duplicates": list(Duplicate.objects.filter(event=row.pk).order_by("id")[:DUPLICATES]),
            "further": [_further(reading) for reading in further],
            "payload": body(row) if may_view_payload(request) else None,
        }


def _further(reading: EventReading) -> dict[str, Any]:
    """Return what became of the event in a further saga type that reads it."""
    logged = SagaEvent.objects.filter(event=reading.id).first()
    return {
        "reading": reading,
        "title": nouns.titles().get(reading.stream, reading.stream),
        "logged": logged,
        "saga": SagaLog.objects.filter(id=logged.saga_id).only("key", "status").first() if logged else None,
        "parked": None if logged else Parked.objects.filter(event=reading.id).first(),
        "pending": not logged and Pending.objects.filter(id=reading.id).exists(),
    }


def body(event: Event) -> str:
    """Return the body as text; the template escapes it."""
    return json.dumps(event.payload, indent=2, ensure_ascii=False, sort_keys=True)


def _found(term: str) -> list[int]:
    """Find events by event id, message id or key, each by an index."""
    if "\x00" in term:
        return []
    spellings = {term, spelled(term) or term}
    pks = [*look_up.by_event_id(spellings), *look_up.by_message_id(term)]
    for beginning in {term, term.lower()}:
        pks += look_up.by_event_id_prefix(beginning)
    return [*pks, *of_key(spellings)[:MOST]]
