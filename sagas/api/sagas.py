"""Reads of sagas and their parts."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_view
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from sagas import queries
from sagas.api import parameters as p
from sagas.api import serializers as s
from sagas.api.addresses import tail
from sagas.api.base import ApiView, find_saga, page_of, reads
from sagas.models import SagaLog
from sagas.queries import SagaFilters, parts
from sagas.queries.pages import page_of as read_page
from sagas.rights import VIEW_COMMANDS


@extend_schema_view(get=reads(page_of(s.SagaSummarySerializer), p.SagasParameters, name="list_sagas"))
class SagasView(ApiView):
    """List sagas, newest first."""

    parameters = p.SagasParameters

    def get(self, request: Request) -> Response:
        given = self.given(request)
        wanted = {name: value for name, value in given.values.items() if name not in given.page}
        page = queries.list_sagas(SagaFilters(**wanted), **given.page)
        return self.answer_page(page, s.SagaSummarySerializer)


class _Detail(ApiView):
    def answer_saga(self, request: Request, saga: SagaLog) -> Response:
        waiting = queries.waiting(saga, payload=self.payload)
        values = {
            **{name: getattr(saga, name) for name in _OWN},
            "steps": parts.first_steps(saga.id),
            "steps_url": reverse("saga-steps", args=[saga.id], request=request),
            "metadata": queries.metadata(saga),
            "waiting": waiting.as_data() if waiting else None,
        }
        return Response(s.SagaDetailSerializer(values, context={"payload": self.payload}).data)


_OWN = ("id", "correlation_id", "saga_type", "status", "steps_count", "start_time", "end_time", "error_message")


@extend_schema_view(get=reads(s.SagaDetailSerializer, missing=True, name="get_saga"))
class SagaView(_Detail):
    """Return one saga: its steps, what it waits for, its counts."""

    def get(self, request: Request, saga_id: str) -> Response:
        self.given(request)
        return self.answer_saga(request, find_saga(saga_id))


@extend_schema_view(get=reads(s.SagaDetailSerializer, missing=True))
class SagaByCorrelationView(_Detail):
    """Return the newest saga with a correlation id, which may be any string."""

    def get(self, request: Request, correlation_id: str) -> Response:
        self.given(request)
        wanted = tail(request, "/sagas/by-correlation/", correlation_id)
        for one in wanted:
            saga = queries.by_correlation(one)
            if saga is not None:
                return self.answer_saga(request, saga)
        raise NotFound(f"Saga with correlation ID {wanted[0]} not found")


@extend_schema_view(get=reads(s.SagaSummarySerializer(many=True), p.LimitedParameters))
class SagasByTaskView(ApiView):
    """Return the sagas with this key, as a bare list."""

    parameters = p.LimitedParameters

    def get(self, request: Request, task_id: str) -> Response:
        limit = self.given(request).page["limit"]
        for one in tail(request, "/sagas/by-task/", task_id):
            found = queries.by_task(one, limit)
            if found:
                break
        listed = s.SagaSummarySerializer(found, many=True, context={"payload": self.payload})  # type: ignore[arg-type]
        return Response(listed.data)


@extend_schema_view(get=reads(page_of(s.StepSerializer), p.StepsParameters, missing=True))
class StepsView(ApiView):
    """List the steps of a saga, in the order in which they happened."""

    parameters = p.StepsParameters

    def get(self, request: Request, saga_id: str) -> Response:
        given = self.given(request, parts.steps(find_saga(saga_id).id))
        return self.answer_page(read_page(given.rows(), **given.page), s.StepSerializer)


@extend_schema_view(get=reads(page_of(s.LaneSerializer), p.LanesParameters, missing=True))
class LanesView(ApiView):
    """List the parts of a saga, one for each of its entities, with their outcome."""

    parameters = p.LanesParameters

    def get(self, request: Request, saga_id: str) -> Response:
        saga = find_saga(saga_id)
        given = self.given(request, parts.lanes(saga.id))
        return self.answer_page(parts.lane_page(saga, given.rows(), **given.page), s.LaneSerializer)


@extend_schema_view(get=reads(page_of(s.CommandSerializer), p.CommandsParameters, missing=True))
class CommandsView(ApiView):
    """List the commands of a saga, each with all its attempts."""

    right = VIEW_COMMANDS
    parameters = p.CommandsParameters

    def get(self, request: Request, saga_id: str) -> Response:
        given = self.given(request, parts.commands(find_saga(saga_id).id))
        return self.answer_page(
            parts.command_page(given.rows(), holds=None, saga=None, **given.page), s.CommandSerializer
        )


@extend_schema_view(get=reads(page_of(s.SagaEventSerializer), p.EventsParameters, missing=True))
class EventsView(ApiView):
    """List a saga's log: its events in the order in which they were applied, and what each changed.

    Message contents are shown with payload=true, to a login that may see them.
    """

    parameters = p.EventsParameters

    def get(self, request: Request, saga_id: str) -> Response:
        given = self.given(request)
        values = given.values
        payload = values.get("payload") == "true"
        if payload and not self.payload:
            self.permission_denied(request, message="Message contents require the permission view_payload")
        rows = parts.log(find_saga(saga_id).id, type=values.get("type", ""), entity=values.get("entity", ""))
        page = parts.event_page(rows, payload=payload, **given.page)
        return self.answer_page(page, s.SagaEventSerializer, payload=payload)


@extend_schema_view(get=reads(page_of(s.TimelineEntrySerializer), p.PagedParameters, missing=True))
class TimelineView(ApiView):
    """List a saga's timeline: events, commands, attempts, deadlines, decisions."""

    parameters = p.PagedParameters

    def get(self, request: Request, saga_id: str) -> Response:
        given = self.given(request)
        page: queries.Page[Any] = queries.timeline(
            find_saga(saga_id).id, given.page["offset"], given.page["limit"], payload=self.payload
        )
        return self.answer_page(page, s.TimelineEntrySerializer)
