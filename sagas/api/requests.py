"""The request bodies of decisions, from their specs. Strict: an unknown field is an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers as s

from sagas import actions
from sagas.actions import ActionSpec, Field, FieldKind, Target, is_blank
from sagas.actions.action import REASON_LIMIT
from sagas.definitions import type_names
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


class SagaType(s.CharField):
    """A saga type by either of its names; the value is the stored one."""

    def to_internal_value(self, data: Any) -> str:
        return type_names.stored(super().to_internal_value(data))


@extend_schema_field({"type": "boolean", "example": True})
class DryRun(s.BooleanField):
    """Whether the decision is only previewed. The example is a preview: people send it as it stands."""


@extend_schema_field({"type": "integer", "minimum": 0, "example": 4})
class CountField(s.IntegerField):
    """A number that is not negative. The example is not 0, which people would send unseen."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, **kwargs)


class ReasonedSerializer(s.Serializer[Any]):
    """The body of a decision: it requires a reason, except for a dry run."""

    # A flag without which nothing is decided.
    only_with = ""
    reason = s.CharField(required=False, allow_blank=True, max_length=REASON_LIMIT, help_text=_("reason"))
    dry_run = DryRun(required=False, default=False, help_text=_("preview only: nothing is changed"))

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
        return not attrs["dry_run"] and (not self.only_with or attrs[self.only_with])


def on_commands(action: str) -> ActionSpec:
    """Return the decision on commands that a body names, as its name or as in an address."""
    return next(spec for spec in actions.of_target(Target.COMMANDS) if action in (spec.name, spec.slug))


def on_sagas(action: str) -> ActionSpec:
    """Return the decision on many sagas that a body names, as its name or as in an address."""
    return next(spec for spec in actions.on_many_sagas() if action in (spec.name, spec.slug))


# The bodies by target. They have no docstrings: the schema describes each body by that of the base.


class KeyOrEventSerializer(ReasonedSerializer):
    key = Id(required=False, help_text=fill_lazy(_("all events with this %(key_id)s, past and future")))
    event = Id(required=False, help_text=_("one event, by its id"))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("key" in attrs) == ("event" in attrs):
            raise s.ValidationError({"key": [_("Give either key or event.")]})
        return super().validate(attrs)


class KeySerializer(ReasonedSerializer):
    key = Id()


class ManyCommandsSerializer(ReasonedSerializer):
    ids = s.ListField(child=s.UUIDField(), required=False, allow_empty=False, max_length=10_000)
    saga = s.UUIDField(required=False, help_text=_("all commands of a saga to which the action can apply"))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        selecting = {
            field.name for spec in actions.of_target(Target.COMMANDS) for field in spec.fields if field.selects
        }
        given = [name for name in ("ids", "saga", *sorted(selecting)) if attrs.get(name) is not None]
        if len(given) != 1:
            raise s.ValidationError({"ids": [_("Give exactly one of ids, saga and planned_before.")]})
        spec = on_commands(attrs["action"])
        if given[0] in selecting - {field.name for field in spec.fields}:
            raise s.ValidationError({"action": [_("planned_before can only be used with the action withdraw.")]})
        return super().validate(attrs)


class ManySagasSerializer(ReasonedSerializer):
    ids = s.ListField(child=s.UUIDField(), allow_empty=False, max_length=500)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        own = {field.name for field in on_sagas(attrs["action"]).fields}
        others = {field.name for spec in actions.on_many_sagas() for field in spec.fields} - own
        foreign = sorted(name for name in others if attrs.get(name) is not None)
        if foreign:
            raise s.ValidationError({name: [_("This action does not take it.")] for name in foreign})
        return super().validate(attrs)


class ServiceSerializer(ReasonedSerializer):
    service = s.CharField(required=False, allow_null=True, help_text=_("one service; if omitted, all"))
    paused = s.BooleanField()


_TARGETS: Mapping[Target, type[ReasonedSerializer]] = {
    Target.PARKED: KeyOrEventSerializer,
    Target.KEY: KeySerializer,
}
_INPUTS: Mapping[FieldKind, Callable[..., s.Field[Any, Any, Any, Any]]] = {
    FieldKind.ID: Id,
    FieldKind.SAGA: s.UUIDField,
    FieldKind.SAGA_TYPE: SagaType,
    FieldKind.TEXT: s.CharField,
    FieldKind.NUMBER: CountField,
    FieldKind.FLAG: s.BooleanField,
    FieldKind.CHOICE: s.ChoiceField,
    FieldKind.TIME: s.DateTimeField,
}


def body_of(spec: ActionSpec) -> type[ReasonedSerializer]:
    """Return the body of the address that a decision has for itself."""
    fields = tuple(field for field in spec.fields if not field.selects)
    return _body(_name_of(spec, fields), _TARGETS.get(spec.target, ReasonedSerializer), fields, spec.only_with)


def body_of_many(specs: Sequence[ActionSpec]) -> type[ReasonedSerializer]:
    """Return the body of the address that decides on many commands."""
    fields = {field.name: _input(field) for spec in specs for field in spec.fields}
    return type("OnCommandsSerializer", (ManyCommandsSerializer,), {"action": _choice_of(specs), **fields})


def body_of_many_sagas(specs: Sequence[ActionSpec]) -> type[ReasonedSerializer]:
    """Return the body of the address that decides on many sagas."""
    fields = {field.name: _input(_of_many(field)) for spec in specs for field in spec.fields}
    return type("OnSagasSerializer", (ManySagasSerializer,), {"action": _choice_of(specs), **fields})


def _of_many(field: Field) -> Field:
    """Return a field as a decision on many sagas takes it."""
    return replace(field, required=False, api_help=field.of_many_help) if field.of_many_help else field


def _choice_of(specs: Sequence[ActionSpec]) -> s.ChoiceField:
    return s.ChoiceField([name for spec in specs for name in dict.fromkeys((spec.name, spec.slug))])


def body_of_publishing(specs: Sequence[ActionSpec]) -> type[ReasonedSerializer]:
    """Return the body of the address that pauses and resumes."""
    fields = {field.name: _input(field) for spec in specs for field in spec.fields}
    return type("SetPublishingSerializer", (ServiceSerializer,), fields)


@cache
def _body(
    name: str, target: type[ReasonedSerializer], fields: tuple[Field, ...], only_with: str
) -> type[ReasonedSerializer]:
    """Return one class for each name: a schema knows a component by its name."""
    return type(f"{name}Serializer", (target,), {**{own.name: _input(own) for own in fields}, "only_with": only_with})


def _name_of(spec: ActionSpec, fields: tuple[Field, ...]) -> str:
    """Return the name of the body in the schema: that of the target, or of the decision if it has fields of its own."""
    own = "".join(part.capitalize() for part in spec.name.split("_"))
    match spec.target:
        case Target.SAGA if not fields:
            return "OnSaga"
        case Target.SAGA if [field.name for field in fields] == ["lane"]:
            return "OnSagaOrLane"
        case Target.SAGA:
            return f"{own}Saga"
        case Target.COMMANDS:
            return f"{own}Command" if fields else "OnCommand"
        case Target.MESSAGE:
            return own if fields else "OnMessage"
    return own


def _input(field: Field) -> s.Field[Any, Any, Any, Any]:
    options: dict[str, Any] = {"required": field.required, "help_text": field.api_help and fill_lazy(field.api_help)}
    if not field.required and field.kind in (FieldKind.ID, FieldKind.SAGA_TYPE, FieldKind.TEXT, FieldKind.CHOICE):
        options["allow_null"] = True
    if field.kind is FieldKind.CHOICE:
        options["choices"] = list(field.choices)
    if field.kind is FieldKind.FLAG and not field.required:
        options["default"] = False
    return _INPUTS[field.kind](**options)
