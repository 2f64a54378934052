"""The forms of decisions: the target, which is hidden or chosen, the decision's own fields, and the reason.

The reason is required to confirm.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from sagas import actions, incidents, nouns
from sagas.actions import ActionSpec, Field, FieldKind, Target
from sagas.actions.action import REASON_LIMIT
from sagas.errors import NotFound
from sagas.models import SagaLog
from sagas.nouns import Nouns
from sagas.queries import by_task
from sagas.queries.ids import saga_id


class DecisionForm(forms.Form):
    """The reason, and a key per form by which a repeated request is recognized."""

    spec: ClassVar[ActionSpec]
    reason = forms.CharField(
        label=_("Reason"),
        max_length=REASON_LIMIT,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 80}),
        help_text=_("Stored permanently and visible to others. Do not enter patient names."),
    )
    request_key = forms.CharField(widget=forms.HiddenInput, max_length=200, required=False)

    def __init__(self, *args: Any, confirming: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = confirming
        self.fields["reason"].widget.is_required = False
        if self.spec.reason_label:
            self.fields["reason"].label = self.spec.reason_label
            self.fields["reason"].help_text = self.spec.reason_help
        self._use_nouns()
        self.order_fields([field.name for field in self.spec.fields])

    def _use_nouns(self) -> None:
        """Fill the nouns of the target's saga type into the texts of the decision's own fields."""
        named = [own for own in self.spec.fields if own.label]
        words = nouns_of_target(self.data or self.initial) if named else nouns.shared()
        for own in named:
            self.fields[own.name].label = capfirst(words.fill(own.label))
            self.fields[own.name].help_text = words.fill(own.help)

    def clean_reason(self) -> str:
        """Return the reason. Raises ValidationError if one is required and it has no visible character."""
        reason: str = self.cleaned_data["reason"]
        if self.fields["reason"].required and actions.is_blank(reason):
            raise ValidationError(self.fields["reason"].error_messages["required"], code="required")
        return reason

    def clean(self) -> dict[str, Any]:
        """Check what depends on several fields."""
        fields = super().clean() or {}
        for own in self.spec.fields:
            why = own.missing(fields) if own.missing is not None else ""
            if why:
                self.add_error(own.name, why)
        return fields

    def target(self) -> dict[str, Any]:
        """Return the checked target, by the names that the effect takes."""
        raise NotImplementedError

    def values(self) -> dict[str, Any]:
        """Return all that the effect takes. A decision that can also only be shown is made here."""
        given = {field.name: self.cleaned_data.get(field.name) for field in self.spec.fields if _is_shown(field)}
        own = {name: None if value == "" else value for name, value in given.items()}
        chosen = {self.spec.only_with: True} if self.spec.only_with else {}
        return {**own, **self.target(), **chosen}

    @staticmethod
    def fresh_key() -> str:
        """Return a key for one rendering of the form."""
        return f"admin:{uuid.uuid4()}"


class SagaForm(DecisionForm):
    """A saga."""

    saga = forms.UUIDField(widget=forms.HiddenInput)

    def target(self) -> dict[str, Any]:
        return {"saga": self.cleaned_data["saga"]}


class SagasForm(DecisionForm):
    """One saga, or several by their ids, fixed when they were chosen."""

    ids = forms.CharField(widget=forms.HiddenInput, required=False, strip=True)
    saga = forms.UUIDField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (self.data or self.initial).get("ids"):
            for own in self.spec.fields:
                if own.of_many_help:
                    self.fields[own.name].required = False
                    self.fields[own.name].help_text += " " + nouns.shared().fill(own.of_many_help)

    def clean_ids(self) -> list[uuid.UUID]:
        """Return the ids as UUIDs. Raises ValidationError."""
        return _as_ids(self.cleaned_data["ids"], malformed=_("a saga's id is a UUID"))

    def clean(self) -> dict[str, Any]:
        fields = super().clean()
        if not self.errors and not (fields.get("ids") or fields.get("saga")):
            raise ValidationError(_("Choose at least one saga."))
        return fields

    def target(self) -> dict[str, Any]:
        ids = self.cleaned_data.get("ids")
        return {"ids": ids} if ids else {"saga": self.cleaned_data["saga"]}


class CommandsForm(DecisionForm):
    """Commands: by their ids, fixed when they were chosen, or those of a saga, or chosen by a field of the decision."""

    ids = forms.CharField(widget=forms.HiddenInput, required=False, strip=True)
    saga = forms.UUIDField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        given = self.data or self.initial
        if given.get("ids") or given.get("saga"):
            for name in self._choosing():
                self.fields[name].widget = forms.HiddenInput()

    def _choosing(self) -> list[str]:
        return [field.name for field in self.spec.fields if field.selects]

    def clean_ids(self) -> list[uuid.UUID]:
        """Return the ids as UUIDs. Raises ValidationError."""
        return _as_ids(self.cleaned_data["ids"], malformed=_("a command's id is a UUID"))

    def clean(self) -> dict[str, Any]:
        fields = super().clean()
        if not self.errors and not any(fields.get(name) for name in ("ids", "saga", *self._choosing())):
            raise ValidationError(_("Choose at least one command."))
        return fields

    def target(self) -> dict[str, Any]:
        """Return one command by its id, or many. Ids precede a field that chooses, and that precedes a saga."""
        fields = self.cleaned_data
        ids = fields.get("ids") or []
        if ids:
            only = {"command": ids[0]} if len(ids) == 1 else {"ids": ids}
            return {**dict.fromkeys(self._choosing()), **only}
        return {} if any(fields.get(name) for name in self._choosing()) else {"saga": fields["saga"]}


class ParkedForm(DecisionForm):
    """Unmatched events: those of a key, or one."""

    stream = forms.CharField(widget=forms.HiddenInput, required=False)
    key = forms.CharField(widget=forms.HiddenInput, required=False)
    event = forms.CharField(widget=forms.HiddenInput, required=False)

    def clean(self) -> dict[str, Any]:
        fields = super().clean()
        if not self.errors and not (fields.get("key") or fields.get("event")):
            raise ValidationError(_("Choose an event, or all events of an id."))
        return fields

    def target(self) -> dict[str, Any]:
        fields = self.cleaned_data
        named = {"event": fields["event"]} if fields.get("event") else {"key": fields.get("key") or ""}
        by_type = any(field.kind is FieldKind.SAGA_TYPE for field in self.spec.fields)
        return {**named, "saga_type": fields.get("stream") or None} if by_type else named


class MessageForm(DecisionForm):
    """A quarantined message."""

    message = forms.IntegerField(widget=forms.HiddenInput, min_value=1)

    def target(self) -> dict[str, Any]:
        return {"message": self.cleaned_data["message"]}


class PublishingForm(DecisionForm):
    """One service, or all."""

    service = forms.ChoiceField(label=_("Service"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        services = [(name, name) for name in actions.services()]
        self.fields["service"] = forms.ChoiceField(
            label=_("Service"), required=False, choices=[("", _("all services")), *services]
        )
        self.order_fields(["service", *(field.name for field in self.spec.fields)])

    def target(self) -> dict[str, Any]:
        return {"service": self.cleaned_data.get("service") or None}


class IncidentForm(DecisionForm):
    """An incident."""

    incident = forms.UUIDField(widget=forms.HiddenInput)

    def clean_incident(self) -> uuid.UUID:
        """Return the id. Raises ValidationError if there is no such incident."""
        try:
            return incidents.recorded(self.cleaned_data["incident"])
        except NotFound as error:
            raise ValidationError(str(error)) from None

    def target(self) -> dict[str, Any]:
        return {"incident": self.cleaned_data["incident"]}


class SagaField(forms.CharField):
    """A saga, by its id or a key; its value is the saga's id."""

    def clean(self, value: Any) -> Any:
        """Return the saga's id. Raises ValidationError if none or several match."""
        text = super().clean(value)
        if not text:
            return None
        found = saga_id(text)
        if found is not None and SagaLog.objects.filter(id=found).exists():
            return found
        named = by_task(text, 2)
        if len(named) != 1:
            raise ValidationError(
                _("No saga has this id.") if not named else _("Several sagas have this id. Enter the saga id.")
            )
        return named[0].id


_FORMS: Mapping[Target, type[DecisionForm]] = {
    Target.SAGA: SagaForm,
    Target.COMMANDS: CommandsForm,
    Target.PARKED: ParkedForm,
    Target.KEY: ParkedForm,
    Target.MESSAGE: MessageForm,
    Target.PUBLISHING: PublishingForm,
    Target.INCIDENT: IncidentForm,
}
_INPUTS: Mapping[FieldKind, Callable[..., forms.Field]] = {
    FieldKind.ID: forms.CharField,
    FieldKind.SAGA: SagaField,
    FieldKind.SAGA_TYPE: forms.CharField,
    FieldKind.TEXT: forms.CharField,
    FieldKind.NUMBER: forms.IntegerField,
    FieldKind.FLAG: forms.BooleanField,
    FieldKind.CHOICE: forms.ChoiceField,
    FieldKind.TIME: forms.DateTimeField,
}


def nouns_of_target(fields: Mapping[str, Any]) -> Nouns:
    """Return the nouns of the saga type that the target belongs to."""
    stream = fields.get("stream")
    saga = saga_id(str(fields.get("saga") or ""))
    if not stream and saga:
        stream = SagaLog.objects.filter(id=saga).values_list("saga_type", flat=True).first()
    return nouns.of(stream) if stream else nouns.shared()


@cache
def form_of(spec: ActionSpec) -> type[DecisionForm]:
    """Return the form of a decision."""
    inputs = {field.name: input_of(field) for field in spec.fields if _is_shown(field)}
    base = SagasForm if spec.of_many is not None else _FORMS[spec.target]
    return type(f"{spec.name}_form", (base,), {"__doc__": spec.name, "spec": spec, **inputs})


def _as_ids(text: str, *, malformed: Any) -> list[uuid.UUID]:
    """Parse ids; more than SAGA_JOB_FROM become a job in the list. malformed: what is said. Raises ValidationError."""
    try:
        ids = [uuid.UUID(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise ValidationError(malformed) from None
    most = settings.SAGA_JOB_FROM
    if len(ids) > most:
        many = _("At most %(most)d at once on this page. Choose more in the list: they become a job.")
        raise ValidationError(many % {"most": most})
    return ids


def _is_shown(field: Field) -> bool:
    return bool(field.label) or field.hidden


def input_of(field: Field) -> forms.Field:
    """Return the input of a decision's own field."""
    options: dict[str, Any] = {"label": field.label, "help_text": field.help, "required": field.required}
    if field.kind is FieldKind.CHOICE:
        options["choices"] = [("", ""), *((name, name) for name in field.choices)]
    if field.kind is FieldKind.NUMBER:
        options["min_value"] = 0
    if field.hidden:
        options["widget"] = forms.HiddenInput
    return _INPUTS[field.kind](**options)
