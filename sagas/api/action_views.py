"""The addresses of decisions: each calls the function in `sagas.actions` that admin and manage.py use too."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from sagas import actions, queries
from sagas.actions import CommandSelection
from sagas.api import parameters as p
from sagas.api import requests as r
from sagas.api import serializers as s
from sagas.api.base import DecisionView, decides, page_of, parse_command_id, parse_saga_id, reads
from sagas.api.overview import sliced
from sagas.rights import VIEW_PUBLISHING


@extend_schema_view(post=decides(r.OnSagaOrLaneSerializer))
class ForceCompensationView(DecisionView):
    """Mark a saga, or one lane of it, as failed, even if completed, and undo everything done so far."""

    serializer_class = r.OnSagaOrLaneSerializer

    def post(self, request: Request, saga_id: str) -> Response:
        saga = parse_saga_id(saga_id)
        body, action_request = self.parse(request)
        return self.decided(actions.force_compensation(saga, body.get("lane"), request=action_request))


@extend_schema_view(post=decides(r.OnSagaOrLaneSerializer))
class CancelView(DecisionView):
    """Stop a running saga, or one lane of it, and undo what it did."""

    serializer_class = r.OnSagaOrLaneSerializer

    def post(self, request: Request, saga_id: str) -> Response:
        saga = parse_saga_id(saga_id)
        body, action_request = self.parse(request)
        return self.decided(actions.cancel(saga, body.get("lane"), request=action_request))


@extend_schema_view(post=decides(r.OnSagaSerializer))
class TerminateView(DecisionView):
    """Close a saga without undoing: commands already sent continue, all others are withdrawn permanently."""

    serializer_class = r.OnSagaSerializer

    def post(self, request: Request, saga_id: str) -> Response:
        saga = parse_saga_id(saga_id)
        return self.decided(actions.terminate(saga, request=self.parse(request)[1]))


@extend_schema_view(post=decides(r.OnSagaSerializer))
class ResumeView(DecisionView):
    """Resume a saga that is blocked by an error."""

    serializer_class = r.OnSagaSerializer

    def post(self, request: Request, saga_id: str) -> Response:
        saga = parse_saga_id(saga_id)
        return self.decided(actions.resume(saga, request=self.parse(request)[1]))


@extend_schema_view(post=decides(r.ReplaySagaSerializer))
class ReplayView(DecisionView):
    """Rebuild a saga from its log and show the differences; the result is stored only with apply."""

    serializer_class = r.ReplaySagaSerializer

    def post(self, request: Request, saga_id: str) -> Response:
        saga = parse_saga_id(saga_id)
        body, action_request = self.parse(request)
        return self.decided(actions.replay(saga, body["apply"], request=action_request))


@extend_schema_view(post=decides(r.OnCommandSerializer))
class DecideCommandView(DecisionView):
    """Decide on one command."""

    serializer_class = r.OnCommandSerializer
    action = ""

    def post(self, request: Request, command_id: str) -> Response:
        command = parse_command_id(command_id)
        return self.decided(actions.decide_command(self.action, command, request=self.parse(request)[1]))


@extend_schema_view(post=decides(r.OnCommandsSerializer))
class DecideCommandsView(DecisionView):
    """Decide on many commands; those that are not eligible are listed with the reason and not changed."""

    serializer_class = r.OnCommandsSerializer

    def post(self, request: Request) -> Response:
        body, action_request = self.parse(request)
        selection = CommandSelection(
            ids=body.get("ids"), saga=body.get("saga"), planned_before=body.get("planned_before")
        )
        action = body["action"].replace("-", "_")
        return self.decided(actions.decide_commands(action, selection, request=action_request))


@extend_schema_view(
    get=reads(page_of(s.PublishingSerializer), p.PagedParameters), post=decides(r.SetPublishingSerializer)
)
class PublishingView(DecisionView):
    """Show or change whether commands are sent: to all services ("*"), and to each one."""

    right = VIEW_PUBLISHING
    serializer_class = r.SetPublishingSerializer
    parameters = p.PagedParameters

    def get(self, request: Request) -> Response:
        given = self.given(request)
        return self.answer_page(sliced(queries.publishing(), **given.page), s.PublishingSerializer)

    def post(self, request: Request) -> Response:
        body, action_request = self.parse(request)
        return self.decided(
            actions.set_publishing(body["paused"], body.get("service"), request=action_request, only=body.get("only"))
        )


@extend_schema_view(post=decides(r.AttachSerializer))
class AttachView(DecisionView):
    """Assign all events of a key, or one unmatched event, to a saga or to a lane of it."""

    serializer_class = r.AttachSerializer

    def post(self, request: Request) -> Response:
        body, action_request = self.parse(request)
        names: dict[str, Any] = {name: body.get(name) for name in ("key", "event", "lane")}
        return self.decided(actions.attach(saga_id=body["saga"], request=action_request, **names))


@extend_schema_view(post=decides(r.AdoptSerializer))
class AdoptView(DecisionView):
    """Start a saga from the unmatched events of a key."""

    serializer_class = r.AdoptSerializer

    def post(self, request: Request) -> Response:
        body, action_request = self.parse(request)
        return self.decided(actions.adopt(body["key"], body.get("saga_type"), request=action_request))


@extend_schema_view(post=decides(r.DismissSerializer))
class DismissView(DecisionView):
    """Hide unmatched events. They stay, and are applied if their saga appears."""

    serializer_class = r.DismissSerializer

    def post(self, request: Request) -> Response:
        body, action_request = self.parse(request)
        return self.decided(actions.dismiss(key=body.get("key"), event=body.get("event"), request=action_request))


@extend_schema_view(post=decides(r.OnMessageSerializer))
class RequeueMessageView(DecisionView):
    """Read a quarantined message again with the current rules."""

    serializer_class = r.OnMessageSerializer

    def post(self, request: Request, message_id: int) -> Response:
        return self.decided(actions.requeue_message(message_id, request=self.parse(request)[1]))


@extend_schema_view(post=decides(r.OnMessageSerializer))
class DismissMessageView(DecisionView):
    """Hide a quarantined message; its bytes stay."""

    serializer_class = r.OnMessageSerializer

    def post(self, request: Request, message_id: int) -> Response:
        return self.decided(actions.dismiss_message(message_id, request=self.parse(request)[1]))
