"""The answers of the API, by the names of its contract. Request bodies are in `sagas.api.requests`."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers as s

from bridge.models import PRODUCER_HELP, QuarantineCode, Quarantined, QuarantineStatus
from compensation.deadlines import HoldReason
from compensation.models import (
    Attempt,
    AttemptOutcome,
    BreakerState,
    Command,
    CommandStatus,
    ConfirmationKind,
    ExhaustedBy,
    TripCause,
)
from sagas.attention_kinds import KINDS
from sagas.definitions import type_names
from sagas.engine.definition import StepStatus
from sagas.error_text import shown_attempt, shown_error, shown_text
from sagas.incidents.kinds import CHOICES
from sagas.models import IncidentEntry, IncidentNote, LaneOutcome, SagaLog, SagaStatusChoice, SagaStep

HIDDEN = "Without the permission view_payload the service's text is replaced by [text, 42 characters]."

ANY_OBJECT: dict[str, Any] = {"type": "object", "additionalProperties": True}


@extend_schema_field(ANY_OBJECT)
class ObjectField(s.JSONField):
    """A JSON object without a fixed shape."""


@extend_schema_field({**ANY_OBJECT, "nullable": True})
class NullableObject(s.JSONField):
    """A JSON object without a fixed shape, or null."""


class NullableText(s.CharField):
    """A text; null if empty."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_null=True, **kwargs)

    def get_attribute(self, instance: Any) -> Any:
        return super().get_attribute(instance) or None


class ErrorText(s.CharField):
    """The error text of a service: payload. `context["payload"]` tells whether the login may see it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_null=True, help_text=HIDDEN, **kwargs)

    def to_representation(self, value: Any) -> str:
        return shown_text(value, payload=self.context.get("payload", False), as_data=True)


class LastError(s.CharField):
    """A command's last error, in which the service's text is payload."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_null=True, help_text=HIDDEN, **kwargs)

    def get_attribute(self, instance: Any) -> Any:
        command: Command = instance.command
        payload = self.context.get("payload", False)
        return shown_error(command.last_error, command.last_error_data, payload=payload, as_data=True) or None


class AttemptError(s.CharField):
    """The error of an attempt; it is payload if the service refused the command."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_null=True, help_text=HIDDEN, **kwargs)

    def get_attribute(self, instance: Attempt) -> Any:
        return shown_attempt(instance, payload=self.context.get("payload", False), as_data=True) or None


class ErrorSerializer(s.Serializer[Any]):
    detail = s.CharField()


class BadRequestErrorSerializer(ErrorSerializer):
    errors = s.DictField(child=s.ListField(child=s.CharField()), required=False)  # type: ignore[assignment]


class PublicSagaType(s.CharField):
    """A saga type by its public name."""

    def to_representation(self, value: str) -> str:
        return type_names.public(value)


# --- sagas ----------------------------------------------------------------------------------------------------------


class SagaSummarySerializer(s.Serializer[SagaLog]):
    id = s.UUIDField()
    correlation_id = s.CharField()
    saga_type = PublicSagaType()
    status = s.ChoiceField(SagaStatusChoice.choices)
    steps_count = s.IntegerField()
    failed_steps_count = s.IntegerField()
    start_time = s.DateTimeField()
    end_time = s.DateTimeField(allow_null=True)
    error_message = ErrorText()


class StepSerializer(s.Serializer[SagaStep]):
    id = s.UUIDField(source="public_id")
    saga_id = s.UUIDField()
    step_type = s.CharField()
    service = s.CharField()
    status = s.ChoiceField([status.value for status in StepStatus])
    event_id = NullableText()
    event_type = NullableText()
    entity_id = NullableText(source="entity")
    metadata = NullableObject()
    error_message = ErrorText()
    timestamp = s.DateTimeField(source="occurred_at")
    compensation_timestamp = s.DateTimeField(allow_null=True)


class OnHoldSerializer(s.Serializer[Any]):
    """Why a deadline is on hold. `service` names the paused service, "*" for all."""

    reason = s.ChoiceField([reason.value for reason in HoldReason])
    service = s.CharField()
    since = s.DateTimeField(allow_null=True)
    by = NullableText()
    sentence = s.CharField()


class WaitingSerializer(s.Serializer[Any]):
    sentence = s.CharField()
    kind = s.CharField()
    since = s.DateTimeField(allow_null=True)
    count = s.IntegerField()
    command = s.CharField(allow_null=True)
    command_id = s.CharField(allow_null=True)
    entity = s.CharField(allow_null=True)
    service = s.CharField(allow_null=True)
    topic = s.CharField(allow_null=True)
    attempt = s.IntegerField(allow_null=True)
    maximum_attempts = s.IntegerField(allow_null=True)
    next_retry = s.DateTimeField(allow_null=True)
    deadline = s.DateTimeField(allow_null=True)
    event = s.CharField(allow_null=True)
    error = s.CharField(allow_null=True)
    held_by = s.CharField(allow_null=True)
    on_hold = OnHoldSerializer(allow_null=True)


class SagaDetailSerializer(s.Serializer[Any]):
    id = s.UUIDField()
    correlation_id = s.CharField()
    saga_type = PublicSagaType()
    status = s.ChoiceField(SagaStatusChoice.choices)
    steps = StepSerializer(many=True)
    steps_count = s.IntegerField()
    steps_url = s.CharField()
    start_time = s.DateTimeField()
    end_time = s.DateTimeField(allow_null=True)
    error_message = ErrorText()
    metadata = NullableObject()
    waiting = WaitingSerializer(allow_null=True)


class LaneSerializer(s.Serializer[Any]):
    entity = s.CharField(source="lane.entity")
    outcome = s.ChoiceField(LaneOutcome.choices, source="lane.outcome")
    failed = s.BooleanField(source="lane.failed")
    opened_at = s.DateTimeField(source="lane.opened_at", allow_null=True)
    run = s.IntegerField(help_text="The run of the saga in which it began, from 1.")


class AttemptDataSerializer(s.Serializer[Attempt]):
    round = s.IntegerField()
    number = s.IntegerField()
    started_at = s.DateTimeField()
    ended_at = s.DateTimeField(allow_null=True)
    outcome = s.ChoiceField(AttemptOutcome.choices)
    counted = s.BooleanField()
    worker = s.CharField()
    message_id = NullableText()
    error = AttemptError()


class CommandSerializer(s.Serializer[Any]):
    id = s.UUIDField(source="command.id")
    saga_id = s.UUIDField(source="command.saga_id")
    name = s.CharField(source="command.name")
    entity = s.CharField(source="command.entity")
    service = s.CharField(source="command.service")
    topic = s.CharField(source="command.topic")
    status = s.ChoiceField(CommandStatus.choices, source="command.status")
    confirmation = s.ChoiceField(ConfirmationKind.choices, source="command.confirmation")
    round = s.IntegerField(source="command.round")
    attempt = s.IntegerField(source="command.attempt")
    maximum_attempts = s.IntegerField(source="command.maximum_attempts")
    planned_at = s.DateTimeField(source="command.planned_at")
    released_at = s.DateTimeField(source="command.released_at", allow_null=True)
    held_since = s.DateTimeField(source="command.held_since", allow_null=True)
    held_by = s.UUIDField(source="command.held_by", allow_null=True)
    next_retry = s.DateTimeField(source="command.next_at", allow_null=True)
    published_at = s.DateTimeField(source="command.published_at", allow_null=True)
    deadline = s.DateTimeField(source="command.deadline_at", allow_null=True)
    on_hold = OnHoldSerializer(allow_null=True)
    settled_at = s.DateTimeField(source="command.settled_at", allow_null=True)
    by_hand = s.BooleanField(source="command.by_hand")
    settled_event = NullableText(source="command.settled_event")
    confirmed_unsent_at = s.DateTimeField(
        source="command.confirmed_unsent_at",
        allow_null=True,
        help_text="When an event confirmed it although it was never sent.",
    )
    overtaken_at = s.DateTimeField(
        source="command.overtaken_at",
        allow_null=True,
        help_text=(
            "When it counted as carried out although it was no longer required: it had been sent, or marked as done, "
            "and what its saga is about was started again."
        ),
    )
    exhausted_by = s.ChoiceField([*ExhaustedBy.values, ""], source="command.exhausted_by")
    last_error = LastError()
    body = ObjectField(source="command.body")
    attempts = AttemptDataSerializer(many=True)


class SagaEventSerializer(s.Serializer[Any]):
    """One event of a saga's log. `payload` only on request, and only for a login that may see it."""

    number = s.IntegerField(source="log.seq")
    event_id = s.CharField(source="event.event_id")
    source = s.CharField(source="event.source")  # type: ignore[assignment]
    type = s.CharField(source="event.type")
    task_id = NullableText(source="event.key")
    entity_id = NullableText(source="event.entity")
    lane = NullableText(source="log.lane")
    correlation_id = NullableText(source="event.correlation_id")
    occurred_at = s.DateTimeField(source="event.occurred_at")
    received_at = s.DateTimeField(source="event.received_at")
    applied_at = s.DateTimeField(source="log.applied_at")
    topic = NullableText(source="event.topic")
    message_id = NullableText(source="event.message_id")
    producer = NullableText(source="event.producer", help_text=PRODUCER_HELP)
    remark = NullableText(source="event.note_text")
    changes = ObjectField(source="log.note")
    duplicates = s.IntegerField()
    payload = ObjectField(source="event.payload", required=False)

    def __init__(self, *args: Any, payload: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not payload:
            # The body is not read from the database either.
            del self.fields["payload"]


class TimelineEntrySerializer(s.Serializer[Any]):
    at = s.DateTimeField()
    kind = s.ChoiceField(["event", "decision", "news", "command", "attempt", "deadline"])
    title = s.CharField()
    entity = NullableText()
    changes = s.ListField(child=s.CharField())
    detail = ObjectField()
    future = s.BooleanField()


# --- not part of a saga -----------------------------------------------------------------------------------------------


class ParkedGroupSerializer(s.Serializer[Any]):
    stream = s.CharField()
    key = s.CharField(allow_blank=True)
    entity = NullableText()
    entities = s.IntegerField()
    count = s.IntegerField()
    types = s.ListField(child=s.CharField())
    reasons = s.ListField(child=s.CharField())
    first_at = s.DateTimeField()
    last_at = s.DateTimeField()
    event_ids = s.ListField(child=s.CharField())
    dismissed = s.BooleanField()
    suggestion = s.UUIDField(allow_null=True)
    suggestion_task_id = s.CharField(source="suggestion_key", allow_null=True)
    saga_pruned_at = s.DateTimeField(source="pruned_at", allow_null=True)


class QuarantinedMessageSerializer(s.Serializer[Quarantined]):
    id = s.IntegerField()
    topic = s.CharField()
    message_id = s.CharField()
    producer = NullableText(help_text=PRODUCER_HELP)
    published_at = s.DateTimeField(allow_null=True)
    received_at = s.DateTimeField()
    code = s.ChoiceField(QuarantineCode.choices)
    reason = s.CharField(source="reason_text")
    status = s.ChoiceField(QuarantineStatus.choices)
    decided_at = s.DateTimeField(allow_null=True)
    decided_by = NullableText()
    decided_why = NullableText()


class AttentionItemSerializer(s.Serializer[Any]):
    kind = s.ChoiceField([kind.name for kind in KINDS])
    since = s.DateTimeField()
    latest = s.DateTimeField()
    age_seconds = s.SerializerMethodField()
    count = s.IntegerField()
    sentence = s.CharField()
    advice = s.CharField()
    saga_id = s.UUIDField(allow_null=True)
    link = ObjectField()

    def get_age_seconds(self, item: Any) -> int:
        return max(0, int(item.age(self.context["now"]).total_seconds()))


class IncidentNoteSerializer(s.Serializer[IncidentNote]):
    """What somebody wrote about an incident. `value`: the owner, or until when it is acknowledged, if it set one."""

    entry = s.ChoiceField(IncidentEntry.choices)
    author = s.CharField()
    written_at = s.DateTimeField()
    text = s.CharField()
    value = NullableText()


class IncidentSerializer(s.Serializer[Any]):
    """Problems with the same cause. `trend`: new cases in each five minutes of the last hour, the oldest first."""

    id = s.UUIDField()
    kind = s.ChoiceField(CHOICES, source="kind.name")
    red = s.BooleanField(source="kind.red", help_text="Whether it is an alarm: red on the start page.")
    sentence = s.CharField()
    advice = s.CharField()
    error = NullableText(help_text="The error of the newest case. " + HIDDEN)
    facets = ObjectField(help_text="What the cases have in common.")
    link = ObjectField()
    count = s.IntegerField()
    sagas = s.IntegerField(allow_null=True)
    first_at = s.DateTimeField()
    last_at = s.DateTimeField()
    trend = s.ListField(child=s.IntegerField())
    direction = s.ChoiceField(["rising", "steady", "falling", "quiet", ""])
    most = s.IntegerField(help_text="The most cases at once.")
    times = s.IntegerField(help_text="How often it came: 1 at first.")
    ended_at = s.DateTimeField(allow_null=True)
    owner = NullableText()
    acknowledged_until = s.DateTimeField(allow_null=True)
    acknowledged_by = NullableText()
    note = IncidentNoteSerializer(allow_null=True)


class IncidentDetailSerializer(IncidentSerializer):
    """An incident with all that people wrote about it, the newest first, and the ids of its first cases."""

    notes = IncidentNoteSerializer(many=True)
    cases_are = s.ChoiceField(["commands", "sagas", "messages", "parked"], allow_null=True)
    cases = s.ListField(child=s.CharField(), help_text="At most 1,000 ids.")


class CircuitBreaker(s.Serializer[Any]):
    """The circuit breaker of a service, once it has paused it. `canary`: the commands that are sent first."""

    state = s.ChoiceField(BreakerState.choices)
    since = s.DateTimeField(source="changed_at")
    by = s.CharField(source="changed_by")
    reason = NullableText()
    cause = s.ChoiceField(TripCause.choices)
    planned = s.IntegerField()
    limit = s.IntegerField(source="allowed")
    canary = s.ListField(child=s.UUIDField())


class PublishingSerializer(s.Serializer[Any]):
    service = s.CharField()
    paused = s.BooleanField()
    since = s.DateTimeField(allow_null=True)
    by = NullableText()
    reason = NullableText()
    waiting = s.IntegerField()
    sent = s.IntegerField()
    paused_by = s.ChoiceField(["all", "service", "breaker"], allow_null=True)
    paused_services = s.ListField(child=s.CharField())
    deadlines_on_hold = OnHoldSerializer(allow_null=True)
    breaker = CircuitBreaker(allow_null=True)


class EventMeaning(s.Serializer[Any]):
    """What an event does: the step that it moves, if it moves one, and the rest in words."""

    step = s.CharField(allow_null=True)
    service = s.CharField(allow_null=True)
    becomes = s.ChoiceField([status.value for status in StepStatus], allow_null=True)
    also = s.ListField(child=s.CharField())


class OtherMeaning(EventMeaning):
    """What it does instead if the text of its `field` begins with `begins`."""

    field = s.CharField()
    begins = s.CharField()


class StatedFailure(EventMeaning):
    """What it does if its `field` has one of the values of `failure`; with another than these it does nothing."""

    field = s.CharField()
    success = s.ListField(child=s.CharField())
    failure = s.ListField(child=s.CharField())


class DefinedEvent(EventMeaning):
    """A type of event. `aliases`: other texts that a message's `type` may hold on these topics.

    `collapse_after`: how many events of one key and entity are stored before the others are only counted.
    """

    type = s.CharField()
    aliases = s.ListField(child=s.CharField())
    topics = s.ListField(child=s.CharField())
    of = s.CharField()
    starts = s.BooleanField()
    own_key = s.BooleanField()
    instead = OtherMeaning(many=True)
    success_field = StatedFailure(allow_null=True)
    collapse_after = s.IntegerField(allow_null=True)


class DefinitionSerializer(s.Serializer[Any]):
    name = s.CharField()
    saga_type = s.CharField()
    title = s.CharField()
    version = s.IntegerField()
    key_field = s.CharField()
    entity_field = s.CharField()
    restarts = s.BooleanField()
    events = DefinedEvent(many=True)
    commands = s.ListField(child=ObjectField())
    mermaid = s.CharField()


class CommandPreviewSerializer(s.Serializer[Any]):
    id = s.UUIDField()
    name = s.CharField()
    entity = s.CharField()
    service = s.CharField()
    topic = s.CharField()
    status_before = s.CharField(allow_null=True)
    status_after = s.CharField()
    body = NullableObject()
    leaves = s.BooleanField()
    released = s.BooleanField()
    held_by = s.UUIDField(allow_null=True)


class DecidedSerializer(s.Serializer[Any]):
    """What was accepted, or (`dry_run`) a preview, or (`repeated`) the result of the first request."""

    decision_id = s.UUIDField(allow_null=True)
    action = s.CharField()
    target = s.CharField()
    actor = s.CharField()
    accepted_at = s.DateTimeField()
    commands = CommandPreviewSerializer(many=True)
    effects = ObjectField()
    repeated = s.BooleanField()
    dry_run = s.BooleanField()
