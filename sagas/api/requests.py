"""The request bodies of decisions. Strict: an unknown field is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers as s

from sagas.actions import is_blank
from sagas.actions.action import REASON_LIMIT
from sagas.api import saga_types
from sagas.nouns import fill_lazy
from sagas.queries.ids import spelled

REASON_REQUIRED = _("A reason is required.")


class Id(s.CharField):
    """An id as events carry it; a UUID in any notation."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=200, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        text = super().to_internal_value(data)
        return spelled(text) or text


class ReasonedSerializer(s.Serializer[Any]):
    """The body of a decision: it requires a reason, except for a dry run."""

    reason = s.CharField(required=False, allow_blank=True, max_length=REASON_LIMIT, help_text=_("reason"))
    dry_run = s.BooleanField(required=False, default=False, help_text=_("preview only: nothing is changed"))

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            # The browsable API's forms carry a CSRF token.
            unknown = set(data) - set(self.fields) - {"csrfmiddlewaretoken"}
            if unknown:
                raise s.ValidationError({name: [_("Unknown field.")] for name in sorted(map(str, unknown))})
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if self.wants_reason(attrs) and is_blank(attrs.get("reason", "")):
            raise s.ValidationError({"reason": [REASON_REQUIRED]})
        return attrs

    def wants_reason(self, attrs: Mapping[str, Any]) -> bool:
        return not attrs["dry_run"]


class OnSagaSerializer(ReasonedSerializer):
    pass


class OnSagaOrLaneSerializer(ReasonedSerializer):
    lane = Id(
        required=False,
        allow_null=True,
        help_text=fill_lazy(_("one %(entity_noun)s, by its id; if omitted, the whole saga")),
    )


class ReplaySagaSerializer(ReasonedSerializer):
    apply = s.BooleanField(
        required=False, default=False, help_text=_("replace the stored state by the state rebuilt from the log")
    )

    def wants_reason(self, attrs: Mapping[str, Any]) -> bool:
        return attrs["apply"] and not attrs["dry_run"]


class OnCommandSerializer(ReasonedSerializer):
    pass


class OnCommandsSerializer(ReasonedSerializer):
    action = s.ChoiceField(["retry", "skip", "mark_done", "mark-done", "withdraw", "release"])
    ids = s.ListField(child=s.UUIDField(), required=False, allow_empty=False, max_length=10_000)
    saga = s.UUIDField(required=False, help_text=_("all commands of a saga to which the action can apply"))
    planned_before = s.DateTimeField(
        required=False, help_text=_("withdraw all unsent commands planned before this time")
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in ("ids", "saga", "planned_before") if attrs.get(name) is not None]
        if len(given) != 1:
            raise s.ValidationError({"ids": [_("Give exactly one of ids, saga and planned_before.")]})
        if given == ["planned_before"] and attrs["action"] != "withdraw":
            raise s.ValidationError({"action": [_("planned_before can only be used with the action withdraw.")]})
        return super().validate(attrs)


class SetPublishingSerializer(ReasonedSerializer):
    service = s.CharField(required=False, allow_null=True, help_text=_("one service; if omitted, all"))
    paused = s.BooleanField()
    only = s.ChoiceField(
        ["switch", "breaker"],
        required=False,
        allow_null=True,
        help_text=_("resume only the service's switch, or only its circuit breaker; if omitted, whichever pauses it"),
    )


class _KeyOrEvent(ReasonedSerializer):
    key = Id(required=False, help_text=fill_lazy(_("all events with this %(key_id)s, past and future")))
    event = Id(required=False, help_text=_("one event, by its id"))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("key" in attrs) == ("event" in attrs):
            raise s.ValidationError({"key": [_("Give either key or event.")]})
        return super().validate(attrs)


class AttachSerializer(_KeyOrEvent):
    saga = s.UUIDField()
    lane = Id(required=False, allow_null=True, help_text=fill_lazy(_("one %(entity_noun)s of the saga, by its id")))


class AdoptSerializer(ReasonedSerializer):
    key = Id()
    saga_type = s.CharField(required=False, allow_null=True)

    def validate_saga_type(self, value: str | None) -> str | None:
        return value and saga_types.stored(value)


class DismissSerializer(_KeyOrEvent):
    pass


class OnMessageSerializer(ReasonedSerializer):
    pass
