"""Decisions: each address is a few lines to the one function in `sagas.decisions` that admin and manage.py use too."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response

from sagas import decisions, queries
from sagas.api import parameters as p
from sagas.api import requests as r
from sagas.api import serializers as s
from sagas.api.base import DecisionView, decides, page_of, parse_command_id, parse_saga_id, reads
from sagas.api.overview import sliced
from sagas.decisions import CommandSelection
from sagas.rights import VIEW_PUBLISHING


@extend_schema_view(post=decides(r.OnSagaOrLaneSerializer))
class ForceCompensationView(DecisionView):
    """Fails a saga, or one lane of it, whatever it has come to: all that is owed then is undone."""

    serializer_class = r.OnSagaOrLaneSerializer

    def post(self, request: Request, saga_id: str) -> Response:
        saga = parse_saga_id(saga_id)
        body, asked = self.asked(request)
        return self.decided(decisions.force_compensation(saga, body.get("lane"), request=asked))


@extend_schema_view(post=decides(r.OnSagaOrLaneSerializer))
class CancelView(DecisionView):
    """Stops a saga that still runs, or one lane of it, and undoes what it did."""

    serializer_class = r.OnSagaOrLaneSerializer

    def post(self, request: Request, saga_id: str) -> Response:
        saga = parse_saga_id(saga_id)
        body, asked = self.asked(request)
        return self.decided(decisions.cancel(saga, body.get("lane"), request=asked))


@extend_schema_view(post=decides(r.OnSagaSerializer))
class TerminateView(DecisionView):
    """Closes a saga without undoing it: what was sent goes on, every other command is withdrawn for ever."""

    serializer_class = r.OnSagaSerializer

    def post(self, request: Request, saga_id: str) -> Response:
        saga = parse_saga_id(saga_id)
        return self.decided(decisions.terminate(saga, request=self.asked(request)[1]))


@extend_schema_view(post=decides(r.OnSagaSerializer))
class ResumeView(DecisionView):
    """Lets a saga go on that was set aside by an error."""

    serializer_class = r.OnSagaSerializer

    def post(self, request: Request, saga_id: str) -> Response:
        saga = parse_saga_id(saga_id)
        return self.decided(decisions.resume(saga, request=self.asked(request)[1]))


@extend_schema_view(post=decides(r.ReplaySagaSerializer))
class ReplayView(DecisionView):
    """Folds a saga's log again and shows the difference; writes it only with apply."""

    serializer_class = r.ReplaySagaSerializer

    def post(self, request: Request, saga_id: str) -> Response:
        saga = parse_saga_id(saga_id)
        body, asked = self.asked(request)
        return self.decided(decisions.replay(saga, body["apply"], request=asked))


@extend_schema_view(post=decides(r.OnCommandSerializer))
class DecideCommandView(DecisionView):
    """One decision on one command."""

    serializer_class = r.OnCommandSerializer
    action = ""

    def post(self, request: Request, command_id: str) -> Response:
        command = parse_command_id(command_id)
        return self.decided(decisions.decide_command(self.action, command, request=self.asked(request)[1]))


@extend_schema_view(post=decides(r.OnCommandsSerializer))
class DecideCommandsView(DecisionView):
    """One decision on many commands; what is not eligible is told with its reason and left alone."""

    serializer_class = r.OnCommandsSerializer

    def post(self, request: Request) -> Response:
        body, asked = self.asked(request)
        selection = CommandSelection(
            ids=body.get("ids"), saga=body.get("saga"), planned_before=body.get("planned_before")
        )
        action = body["action"].replace("-", "_")
        return self.decided(decisions.decide_commands(action, selection, request=asked))


@extend_schema_view(
    get=reads(page_of(s.PublishingSerializer), p.PagedParameters), post=decides(r.SetPublishingSerializer)
)
class PublishingView(DecisionView):
    """Whether commands may leave: all («*»), and each service's."""

    right = VIEW_PUBLISHING
    serializer_class = r.SetPublishingSerializer
    parameters = p.PagedParameters

    def get(self, request: Request) -> Response:
        given = self.given(request)
        return self.answer_page(sliced(queries.publishing(), **given.page), s.PublishingSerializer)

    def post(self, request: Request) -> Response:
        body, asked = self.asked(request)
        return self.decided(
            decisions.set_publishing(body["paused"], body.get("service"), request=asked, only=body.get("only"))
        )


@extend_schema_view(post=decides(r.AttachSerializer))
class AttachView(DecisionView):
    """Says to which saga, or lane of it, all events of a key belong, or one parked event."""

    serializer_class = r.AttachSerializer

    def post(self, request: Request) -> Response:
        body, asked = self.asked(request)
        names: dict[str, Any] = {name: body.get(name) for name in ("key", "event", "lane")}
        return self.decided(decisions.attach(saga_id=body["saga"], request=asked, **names))


@extend_schema_view(post=decides(r.AdoptSerializer))
class AdoptView(DecisionView):
    """Starts a saga from the parked events of a key."""

    serializer_class = r.AdoptSerializer

    def post(self, request: Request) -> Response:
        body, asked = self.asked(request)
        return self.decided(decisions.adopt(body["key"], body.get("saga_type"), request=asked))


@extend_schema_view(post=decides(r.DismissSerializer))
class DismissView(DecisionView):
    """Hides parked events; they stay, and go to their saga should it come."""

    serializer_class = r.DismissSerializer

    def post(self, request: Request) -> Response:
        body, asked = self.asked(request)
        return self.decided(decisions.dismiss(key=body.get("key"), event=body.get("event"), request=asked))


@extend_schema_view(post=decides(r.OnMessageSerializer))
class RequeueMessageView(DecisionView):
    """Reads a quarantined message again, with today's rules."""

    serializer_class = r.OnMessageSerializer

    def post(self, request: Request, message_id: int) -> Response:
        return self.decided(decisions.requeue_message(message_id, request=self.asked(request)[1]))


@extend_schema_view(post=decides(r.OnMessageSerializer))
class DismissMessageView(DecisionView):
    """Hides a quarantined message; its bytes stay."""

    serializer_class = r.OnMessageSerializer

    def post(self, request: Request, message_id: int) -> Response:
        return self.decided(decisions.dismiss_message(message_id, request=self.asked(request)[1]))
