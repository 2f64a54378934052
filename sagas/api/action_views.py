"""The addresses of decisions, from their specs. Each calls the effect that admin and manage.py use too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from sagas import actions, incidents, queries
from sagas.actions import ActionSpec, Target
from sagas.api import parameters as p
from sagas.api import serializers as s
from sagas.api.base import DecisionView, decides, page_of, parse_command_id, parse_incident_id, parse_saga_id, reads
from sagas.api.overview import sliced
from sagas.api.requests import (
    body_of,
    body_of_many,
    body_of_many_sagas,
    body_of_publishing,
    on_commands,
    on_sagas,
)
from sagas.rights import VIEW_PUBLISHING


class OneDecisionView(DecisionView):
    """The address of one decision. The part of the address that names the target is `named`, read by `parse_name`."""

    spec: ActionSpec
    named = ""
    parse_name: Callable[[str], Any] = staticmethod(str)

    def post(self, request: Request, **given: Any) -> Response:
        target = {self.named: self.parse_name(given[self.named + "_id"])} if self.named else {}
        body, action_request = self.parse(request)
        return self.decided(request, self.spec, {**body, **target}, action_request)


class OnSagaView(OneDecisionView):
    named = "saga"
    parse_name = staticmethod(parse_saga_id)


class OnCommandView(OneDecisionView):
    """Decide on one command."""

    named = "command"
    parse_name = staticmethod(parse_command_id)


class OnMessageView(OneDecisionView):
    named = "message"
    parse_name = staticmethod(int)


class OnIncidentView(OneDecisionView):
    named = "incident"

    @staticmethod
    def parse_name(text: str) -> UUID:
        return incidents.recorded(parse_incident_id(text))


# The address of each target. Sending commands has one that its decisions share.
_VIEWS: dict[Target, tuple[str, type[OneDecisionView]]] = {
    Target.SAGA: (r"^sagas/(?P<saga_id>[^/]+)/", OnSagaView),
    Target.COMMANDS: (r"^commands/(?P<command_id>[^/]+)/", OnCommandView),
    Target.PARKED: (r"^parked/", OneDecisionView),
    Target.KEY: (r"^parked/", OneDecisionView),
    Target.MESSAGE: (r"^quarantine/(?P<message_id>[0-9]{1,18})/", OnMessageView),
    Target.INCIDENT: (r"^incidents/(?P<incident_id>[^/]+)/", OnIncidentView),
}


def addresses() -> Iterator[tuple[str, type[OneDecisionView], str]]:
    """Return the addresses of single decisions: the route, its view, and its name if it has no target in it."""
    for spec in actions.of_target(*_VIEWS):
        route, view = _VIEWS[spec.target]
        name = "" if view.named else f"parked-{spec.slug}"
        yield f"{route}{spec.slug}", _view_of(spec, view), name


def _view_of(spec: ActionSpec, base: type[OneDecisionView]) -> type[OneDecisionView]:
    body = body_of(spec)
    own = {
        "__doc__": spec.description or base.__doc__,
        "spec": spec,
        "permission": spec.permission,
        "serializer_class": body,
    }
    described: type[OneDecisionView] = extend_schema_view(post=decides(body))(type(base.__name__, (base,), own))
    return described


_OF_COMMANDS = body_of_many(actions.of_target(Target.COMMANDS))
_OF_SAGAS = body_of_many_sagas(actions.on_many_sagas())
_OF_PUBLISHING = body_of_publishing(actions.of_target(Target.PUBLISHING))


@extend_schema_view(post=decides(_OF_COMMANDS))
class DecideCommandsView(DecisionView):
    """Decide on many commands; those that are not eligible are listed with the reason and not changed."""

    serializer_class = _OF_COMMANDS

    def post(self, request: Request) -> Response:
        body, action_request = self.parse(request)
        return self.decided(request, on_commands(body.pop("action")), body, action_request)


@extend_schema_view(post=decides(_OF_SAGAS))
class DecideSagasView(DecisionView):
    """Decide on many sagas; those that are not eligible are listed with the reason and not changed."""

    serializer_class = _OF_SAGAS

    def post(self, request: Request) -> Response:
        body, action_request = self.parse(request)
        return self.decided(request, on_sagas(body.pop("action")), body, action_request)


@extend_schema_view(get=reads(page_of(s.PublishingSerializer), p.PagedParameters), post=decides(_OF_PUBLISHING))
class PublishingView(DecisionView):
    """Show or change whether commands are sent: to all services ("*"), and to each one."""

    right = VIEW_PUBLISHING
    serializer_class = _OF_PUBLISHING
    parameters = p.PagedParameters

    def get(self, request: Request) -> Response:
        given = self.given(request)
        return self.answer_page(sliced(queries.publishing(), **given.page), s.PublishingSerializer)

    def post(self, request: Request) -> Response:
        body, action_request = self.parse(request)
        [spec] = [one for one in actions.of_target(Target.PUBLISHING) if one.fixed.items() <= body.items()]
        return self.decided(request, spec, body, action_request)
