"""The forms of decisions. The target is hidden or chosen; the reason is required to confirm."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from sagas import actions, nouns
from sagas.actions.action import REASON_LIMIT
from sagas.models import SagaLog
from sagas.queries import by_task
from sagas.queries.ids import saga_id

# This many commands fit one form and one request; decide on more by saga, or by the time of planning.
MOST_COMMANDS = 5000


class DecisionForm(forms.Form):
    """The reason, and a key per form by which a repeated request is recognized."""

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

    def clean_reason(self) -> str:
        """Return the reason. Raises ValidationError if one is required and it has no visible character."""
        reason: str = self.cleaned_data["reason"]
        if self.fields["reason"].required and actions.is_blank(reason):
            raise ValidationError(self.fields["reason"].error_messages["required"], code="required")
        return reason

    @staticmethod
    def fresh_key() -> str:
        """Return a key for one rendering of the form."""
        return f"admin:{uuid.uuid4()}"


class SagaForm(DecisionForm):
    """A saga, or one lane of it."""

    saga = forms.UUIDField(widget=forms.HiddenInput)
    lane = forms.CharField(widget=forms.HiddenInput, required=False)


class CommandsForm(DecisionForm):
    """Commands: by their ids, fixed when they were chosen, or those of a saga."""

    ids = forms.CharField(widget=forms.HiddenInput, required=False, strip=True)
    saga = forms.UUIDField(widget=forms.HiddenInput, required=False)

    def clean_ids(self) -> list[uuid.UUID]:
        """Return the ids as UUIDs. Raises ValidationError."""
        try:
            ids = [uuid.UUID(part) for part in self.cleaned_data["ids"].replace(",", " ").split()]
        except ValueError:
            raise ValidationError(_("a command's id is a UUID")) from None
        if len(ids) > MOST_COMMANDS:
            text = _("At most %(most)d commands at once. Narrow the list, or decide on all commands of a saga.")
            raise ValidationError(text % {"most": MOST_COMMANDS})
        return ids

    def clean(self) -> dict[str, Any]:
        fields = super().clean() or {}
        if not self.errors and not (fields.get("ids") or fields.get("saga") or fields.get("planned_before")):
            raise ValidationError(_("Choose at least one command."))
        return fields


class EvidenceForm(CommandsForm):
    """Commands, with the evidence as the reason."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].label = _("Evidence")
        self.fields["reason"].help_text = _(
            "How do you know that it is undone? Who checked, where and when; a ticket, a log line. Stored permanently."
        )


class WithdrawForm(CommandsForm):
    """Commands, also by a cut-over time: all unsent ones planned before it."""

    planned_before = forms.DateTimeField(
        label=_("Planned before"),
        required=False,
        help_text=_("All unsent commands planned before this time (UTC). Example: 2026-03-01 12:00"),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fields = self.data or self.initial
        if fields.get("ids") or fields.get("saga"):
            self.fields["planned_before"].widget = forms.HiddenInput()


class ParkedForm(DecisionForm):
    """Unmatched events: those of a key, or one."""

    stream = forms.CharField(widget=forms.HiddenInput, required=False)
    key = forms.CharField(widget=forms.HiddenInput, required=False)
    event = forms.CharField(widget=forms.HiddenInput, required=False)

    def clean(self) -> dict[str, Any]:
        fields = super().clean() or {}
        if not self.errors and not (fields.get("key") or fields.get("event")):
            raise ValidationError(_("Choose an event, or all events of an id."))
        return fields


class AttachForm(ParkedForm):
    """The saga that the events belong to, and optionally the lane."""

    saga = forms.CharField(label=_("Saga"))
    lane = forms.CharField(required=False)
    field_order = ("saga", "lane", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        stream = (self.data or self.initial).get("stream")
        self.nouns = nouns.of(stream) if stream else nouns.shared()
        self.fields["saga"].help_text = self.nouns.fill(_("Saga id or %(key_id)s."))
        self.fields["lane"].label = capfirst(self.nouns.entity_noun)
        self.fields["lane"].help_text = self.nouns.fill(
            _("Enter the %(entity_id)s if the events name none: they then count as its events. Otherwise leave empty.")
        )

    def clean(self) -> dict[str, Any]:
        fields = super().clean() or {}
        if fields.get("event") and not fields.get("lane") and actions.needs_lane(fields["event"]):
            self.add_error("lane", self.nouns.fill(_("The event does not name %(the_entity)s. Enter its id.")))
        return fields

    def clean_saga(self) -> uuid.UUID:
        """Return the saga's id. Raises ValidationError if none or several match."""
        text = self.cleaned_data["saga"]
        found = saga_id(text)
        if found is not None and SagaLog.objects.filter(id=found).exists():
            return found
        named = by_task(text, 2)
        if len(named) != 1:
            raise ValidationError(
                self.nouns.fill(_("No saga has this id or %(key_id)s."))
                if not named
                else self.nouns.fill(_("Several sagas have this %(key_id)s. Enter the saga id."))
            )
        return named[0].id


class MessageForm(DecisionForm):
    """A quarantined message."""

    message = forms.IntegerField(widget=forms.HiddenInput, min_value=1)


class PublishingForm(DecisionForm):
    """One service, or all. `only`: only its switch or only its circuit breaker."""

    service = forms.ChoiceField(label=_("Service"), required=False)
    only = forms.ChoiceField(
        required=False, widget=forms.HiddenInput, choices=[("", ""), ("switch", "switch"), ("breaker", "breaker")]
    )
    field_order = ("service", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        services = [(name, name) for name in actions.services()]
        self.fields["service"] = forms.ChoiceField(
            label=_("Service"), required=False, choices=[("", _("all services")), *services]
        )
        self.order_fields(self.field_order)
