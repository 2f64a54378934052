"""What all addresses of the API share: permissions, parameters, one shape of pages and of errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.generics import GenericAPIView
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from sagas import actions, queries
from sagas.api import errors
from sagas.api.parameters import NoParameters, Parameters, described
from sagas.api.parsers import FormParser, JSONParser
from sagas.api.permissions import MayReadOrOperate, may_see_payload
from sagas.api.renderers import PageRenderer
from sagas.api.serializers import BadRequestErrorSerializer, DecidedSerializer, ErrorSerializer
from sagas.models import EntryPoint, SagaLog
from sagas.queries.ids import saga_id as as_uuid
from sagas.rights import OPERATE, VIEW_SAGAS


class CountedFirst(APIView):
    """Count a request against the throttle as soon as its login is known: DRF counts only permitted ones."""

    def perform_authentication(self, request: Request) -> None:
        super().perform_authentication(request)
        super().check_throttles(request)

    def check_throttles(self, request: Request) -> None:
        """Do nothing: perform_authentication has checked them."""


class ApiView(CountedFirst, GenericAPIView[Any]):
    """An address to read, or to take a decision."""

    # The permission to read it.
    right: str | None = VIEW_SAGAS
    permission_classes = [MayReadOrOperate]
    renderer_classes = [JSONRenderer, PageRenderer]
    parser_classes = [JSONParser, FormParser]
    filter_backends: Sequence[Any] = ()
    pagination_class = None
    # The query parameters; the browsable API shows them as a form.
    parameters: type[Parameters] = NoParameters

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return errors.handle

    def get_queryset(self) -> QuerySet[Any]:
        raise ImproperlyConfigured("reads go through sagas.queries")

    def given(self, request: Request, rows: QuerySet[Any] | None = None) -> Parameters:
        """Return the checked parameters. Raises BadRequest."""
        return self.parameters.read(request, rows)

    @property
    def payload(self) -> bool:
        """Return whether this login may see message contents, error texts of services included."""
        return may_see_payload(self.request)

    def answer_page(self, page: queries.Page[Any], form: Any, **options: Any) -> Response:
        """Return a page in the envelope that all lists share."""
        options["context"] = {"payload": self.payload, **options.get("context", {})}
        items = form(page.items, many=True, **options).data
        return Response({"total": page.total, "offset": page.offset, "limit": page.limit, "items": items})


class DecisionView(ApiView):
    """An address of decisions: answers 202 with what was accepted, 200 with a preview."""

    right = OPERATE
    # What a login needs to decide anything here; `decided` checks what the decision itself requires.
    permission = OPERATE

    def get_serializer_class(self) -> Any:
        return self.serializer_class

    def parse(self, request: Request) -> tuple[dict[str, Any], actions.ActionRequest]:
        """Return the body's checked values, and the request of the decision. Raises ValidationError, BadRequest."""
        self.parameters.read(request)
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        values: dict[str, Any] = body.validated_data
        own = {name: value for name, value in values.items() if name not in ("reason", "dry_run")}
        return own, actions.ActionRequest(
            actor=request.user.get_username(),
            door=EntryPoint.API.value,
            reason=values.get("reason", ""),
            dry_run=values.get("dry_run", False),
            idempotency_key=request.headers.get("Idempotency-Key"),
        )

    def decided(
        self,
        request: Request,
        spec: actions.ActionSpec,
        values: Mapping[str, Any],
        action_request: actions.ActionRequest,
    ) -> Response:
        """Carry out a decision and answer. Raises PermissionDenied, DecisionError."""
        if not request.user.has_perm(spec.permission):
            self.permission_denied(request)
        outcome = spec.decide(values, action_request)
        return Response(outcome.as_json(payload=self.payload), status=200 if outcome.dry_run else 202)


def parse_saga_id(text: str) -> UUID:
    """Parse a saga id. Raises BadId."""
    found = as_uuid(text)
    if found is None:
        raise errors.BadId("Invalid saga ID format")
    return found


def parse_command_id(text: str) -> UUID:
    """Parse a command id. Raises BadId."""
    found = as_uuid(text)
    if found is None:
        raise errors.BadId("Invalid command ID format")
    return found


def parse_incident_id(text: str) -> UUID:
    """Parse an incident id. Raises BadId."""
    found = as_uuid(text)
    if found is None:
        raise errors.BadId("Invalid incident ID format")
    return found


def find_saga(text: str) -> SagaLog:
    """Return the saga. Raises BadId, NotFound."""
    saga = queries.get_saga(parse_saga_id(text))
    if saga is None:
        raise NotFound(f"Saga with ID {text} not found")
    return saga


# --- schema -----------------------------------------------------------------------------------------------------------

REFUSALS = {
    400: BadRequestErrorSerializer,
    401: ErrorSerializer,
    403: ErrorSerializer,
    406: ErrorSerializer,
    429: ErrorSerializer,
    500: ErrorSerializer,
    503: ErrorSerializer,
}
OF_BODIES = {413: ErrorSerializer, 415: ErrorSerializer}


def reads(answer: Any, parameters: type[Parameters] = NoParameters, *, missing: bool = False, name: str = "") -> Any:
    """Describe a GET. `name` is the operation id for client generators, if the address alone gives none."""
    responses = {200: answer, **REFUSALS, **({404: ErrorSerializer} if missing else {})}
    return extend_schema(parameters=described(parameters), responses=responses, operation_id=name or None)


def page_of(form: type[serializers.Serializer[Any]]) -> Any:
    """Return the schema of a list's envelope."""
    return inline_serializer(
        f"{form.__name__}Page",
        {
            "total": serializers.IntegerField(),
            "offset": serializers.IntegerField(),
            "limit": serializers.IntegerField(),
            "items": form(many=True),
        },
    )


def decides(request: Any) -> Any:
    """Describe a POST that takes a decision."""
    key = OpenApiParameter(
        "Idempotency-Key",
        OpenApiTypes.STR,
        OpenApiParameter.HEADER,
        description="a request repeated with the same key returns the first result",
    )
    accepted = OpenApiResponse(DecidedSerializer, description="accepted")
    would = OpenApiResponse(DecidedSerializer, description="preview (dry_run)")
    return extend_schema(
        parameters=[key],
        request=request,
        responses={202: accepted, 200: would, 404: ErrorSerializer, 409: ErrorSerializer, **REFUSALS, **OF_BODIES},
    )
