"""Reads outside a single saga: unmatched events, quarantine, attention, definitions, sending commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from bridge import clock
from bridge.models import Quarantined
from sagas import confirmations, incidents, queries
from sagas.api import parameters as p
from sagas.api import serializers as s
from sagas.api.base import ApiView, page_of, parse_incident_id, reads
from sagas.api.permissions import may_read, readable_attention, readable_incidents
from sagas.definitions import describe, registry, type_names
from sagas.engine.definition import Definition
from sagas.queries.pages import page_of as read_page
from sagas.rights import VIEW_JOBS, VIEW_PARKED, VIEW_PUBLISHING, VIEW_QUARANTINE, VIEW_SAGAS

T = TypeVar("T")
# How many ids of cases the answer about one incident names.
NAMED_CASES = 1000

_READ = {
    "sagas": VIEW_SAGAS,
    "attention": VIEW_SAGAS,
    "incidents": VIEW_SAGAS,
    "parked": VIEW_PARKED,
    "quarantine": VIEW_QUARANTINE,
    "publishing": VIEW_PUBLISHING,
    "jobs": VIEW_JOBS,
    "definitions": VIEW_SAGAS,
}


@extend_schema(exclude=True)
class IndexView(ApiView):
    """The saga service: the addresses that this login may read."""

    right = None

    def get(self, request: Request) -> Response:
        self.given(request)
        found = {name: reverse(name, request=request) for name, right in _READ.items() if may_read(request, right)}
        return Response(found | {name: reverse(name, request=request) for name in ("schema", "docs")})


@extend_schema_view(get=reads(page_of(s.ParkedGroupSerializer), p.ParkedGroupsParameters))
class ParkedView(ApiView):
    """List unmatched events, grouped by key, longest waiting first."""

    right = VIEW_PARKED
    parameters = p.ParkedGroupsParameters

    def get(self, request: Request) -> Response:
        given = self.given(request)
        dismissed = given.values.get("dismissed") == "true"
        return self.answer_page(
            queries.parked_groups(given.page["offset"], given.page["limit"], dismissed=dismissed),
            s.ParkedGroupSerializer,
        )


@extend_schema_view(get=reads(page_of(s.QuarantinedMessageSerializer), p.QuarantineParameters))
class QuarantineView(ApiView):
    """List unreadable messages, newest first. The admin shows their bytes."""

    right = VIEW_QUARANTINE
    parameters = p.QuarantineParameters

    def get(self, request: Request) -> Response:
        rows = Quarantined.objects.defer("body", "body_hash", "properties").order_by("-received_at", "-id")
        given = self.given(request, rows)
        return self.answer_page(read_page(given.rows(), **given.page), s.QuarantinedMessageSerializer)


@extend_schema_view(get=reads(page_of(s.AttentionItemSerializer), p.PagedParameters))
class AttentionView(ApiView):
    """List what needs attention, most severe first, then newest; only the kinds that this login may read."""

    parameters = p.PagedParameters

    def get(self, request: Request) -> Response:
        given = self.given(request)
        kinds = readable_attention(request)
        page = queries.attention(given.page["offset"], given.page["limit"], kinds=kinds, payload=self.payload)
        return self.answer_page(page, s.AttentionItemSerializer, context={"now": timezone.now()})


@extend_schema_view(get=reads(page_of(s.IncidentSerializer), p.IncidentsParameters, name="list_incidents"))
class IncidentsView(ApiView):
    """List incidents: problems with the same cause, those not acknowledged first, red ones first, then the newest.

    Only the kinds that this login may read. With `ended=true` those that have ended, the last one first.
    """

    parameters = p.IncidentsParameters

    def get(self, request: Request) -> Response:
        given = self.given(request)
        kinds = readable_incidents(request)
        if given.values.get("ended") == "true":
            return self.answer_page(incidents.ended(**given.page, kinds=kinds), s.IncidentSerializer)
        kind = given.values.get("kind", "")
        page = incidents.listed(**given.page, kind=kind, kinds=kinds, payload=self.payload)
        return self.answer_page(page, s.IncidentSerializer)


@extend_schema_view(get=reads(s.IncidentDetailSerializer, missing=True))
class IncidentDetailView(ApiView):
    """Return one incident, current or ended."""

    def get(self, request: Request, incident_id: str) -> Response:
        self.given(request)
        identity = parse_incident_id(incident_id)
        found = incidents.find(identity, kinds=readable_incidents(request), payload=self.payload)
        if found is None:
            raise NotFound(f"Incident with ID {incident_id} not found")
        target = incidents.target_of(found.kind.name)
        ids = incidents.targets_of(found.kind.name, found.facets, clock.now())[:NAMED_CASES] if target else []
        more = {"notes": incidents.history(identity), "cases_are": target, "cases": [str(one) for one in ids]}
        form = s.IncidentDetailSerializer({**found.as_data(), **more}, context={"payload": self.payload})
        return Response(form.data)


@extend_schema_view(get=reads(page_of(s.DefinitionSerializer), p.PagedParameters, name="list_definitions"))
class DefinitionsView(ApiView):
    """List the saga types, as data and as Mermaid."""

    parameters = p.PagedParameters

    def get(self, request: Request) -> Response:
        given = self.given(request)
        found = [definition_data(item) for _name, item in sorted(registry.current_definitions().items())]
        return self.answer_page(sliced(found, **given.page), s.DefinitionSerializer)


@extend_schema_view(get=reads(s.DefinitionSerializer, missing=True))
class DefinitionOfView(ApiView):
    """Return one saga type."""

    def get(self, request: Request, saga_type: str) -> Response:
        self.given(request)
        try:
            return Response(
                s.DefinitionSerializer(definition_data(registry.current(type_names.stored(saga_type)))).data
            )
        except registry.UnknownDefinition:
            raise NotFound(f"Saga type {saga_type} not found") from None


class Unknown(ApiView):
    """Answer 404 for an unknown address, with any method."""

    right = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.format_kwarg = None
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request, force=True)
        self.perform_authentication(request)
        if not may_read(request, self.right):
            self.permission_denied(request)
        raise NotFound("Not found")


def definition_data(definition: Definition) -> dict[str, Any]:
    """Return a definition as data, with its diagram and with the confirmation kinds that are in force."""
    shown = confirmations.in_force(definition)
    more = {"saga_type": definition.api_name, "mermaid": describe.mermaid(shown)}
    return {**describe.data(shown), **more}


def sliced(found: Sequence[T], offset: int, limit: int) -> queries.Page[T]:
    """Return a page of a list in memory."""
    return queries.Page(len(found), offset, limit, found[offset : offset + limit])
