"""The forms of decisions on a job: the reason, how fast it goes, and the values of the decision's own fields."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from sagas import actions, jobs, nouns
from sagas.actions import ActionSpec, JobAction
from sagas.actions.action import REASON_LIMIT
from sagas.admin.forms import DecisionForm, input_of
from sagas.jobs.control import MOST_RATE
from sagas.jobs.values import fields_of

SPEED_ORDER = ["rate", "canary", "reason"]
_RATE_HELP = _("Leave empty to go as fast as possible.")


class JobForm(forms.Form):
    """The reason, and a key per form by which a repeated request is recognized."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=REASON_LIMIT,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 80}),
        help_text=_("Stored permanently and visible to others. Do not enter patient names."),
    )
    request_key = forms.CharField(widget=forms.HiddenInput, max_length=200, initial=DecisionForm.fresh_key)

    def clean_reason(self) -> str:
        """Return the reason. Raises ValidationError if it has no visible character."""
        reason: str = self.cleaned_data["reason"]
        if actions.is_blank(reason):
            raise ValidationError(self.fields["reason"].error_messages["required"], code="required")
        return reason


class SpeedForm(JobForm):
    """How fast a job goes, too."""

    rate = forms.FloatField(
        label=_("Items per second"), required=False, min_value=0, max_value=MOST_RATE, help_text=_RATE_HELP
    )
    canary = forms.IntegerField(
        label=_("Try so many first"),
        required=False,
        min_value=0,
        max_value=jobs.MOST_ITEMS,
        help_text=_("The others follow when the services have confirmed the commands of these. Empty: all at once."),
    )
    field_order = SPEED_ORDER


class StartForm(SpeedForm):
    """The values of the decision's own fields, too."""

    spec: ClassVar[ActionSpec]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        words = nouns.shared()
        for own in _shown(self.spec):
            self.fields[own.name].label = capfirst(words.fill(own.label))
            helps = [words.fill(text) for text in (own.help, own.of_many_help) if text]
            self.fields[own.name].help_text = " ".join(helps)
        if self.spec.reason_label:
            self.fields["reason"].label = self.spec.reason_label
            self.fields["reason"].help_text = self.spec.reason_help

    def values(self) -> dict[str, Any]:
        """Return the values of the decision's own fields."""
        return {own.name: self.cleaned_data.get(own.name) for own in _shown(self.spec)}


def _shown(spec: ActionSpec) -> list[actions.Field]:
    return [own for own in fields_of(spec) if own.label]


@cache
def start_form(spec: ActionSpec) -> type[StartForm]:
    """Return the form that starts a job with this decision."""
    inputs = {own.name: input_of(own) for own in _shown(spec)}
    for own in _shown(spec):
        inputs[own.name].required = own.required and not own.of_many_help
    order = [*inputs, *SPEED_ORDER]
    return type(f"start_{spec.name}_form", (StartForm,), {"spec": spec, "field_order": order, **inputs})


def form_of(spec: ActionSpec, action: str) -> type[JobForm]:
    """Return the form of a decision on a job."""
    if action == JobAction.START:
        return start_form(spec)
    return SpeedForm if action == JobAction.RESUME else JobForm
