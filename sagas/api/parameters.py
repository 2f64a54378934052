"""Query parameters. Strict: an unknown, malformed or repeated parameter is an error.

Each set is a django-filter FilterSet: the same declaration checks a request, filters, renders the form of the browsable
API, and describes itself in the schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import django_filters
from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from bridge import instants
from bridge.models import QuarantineCode, QuarantineStatus
from compensation.models import CommandStatus
from sagas.api.errors import BadRequest
from sagas.definitions import type_names
from sagas.engine.definition import StepStatus
from sagas.incidents import KINDS
from sagas.jobs import reading
from sagas.models import JobItemStatus, JobStatus, LaneOutcome, SagaStatusChoice
from sagas.nouns import lazy_noun
from sagas.queries.ids import is_storable, spelled

LIMIT_MAXIMUM = 100
# DRF's own parameter: the renderer.
ALWAYS = frozenset({"format"})
# An unescaped plus sign of an offset arrives as a space.
LOST_PLUS = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d\S*) (\d\d:?\d\d)")


class Instant(forms.Field):
    """A time in ISO 8601, UTC without an offset; a date means its first moment, or its last (`end_of_day`)."""

    def __init__(self, *, end_of_day: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.end_of_day = end_of_day

    def to_python(self, value: Any) -> datetime | None:
        text = str(value or "").strip()
        if not text:
            return None
        text = LOST_PLUS.sub(r"\1+\2", text)
        try:
            return instants.parse_bound(text, end_of_day=self.end_of_day)
        except ValueError:
            raise ValidationError(_("Write it as ISO 8601, for example 2026-03-01T12:00:00Z.")) from None


class WholeNumber(forms.Field):
    """A whole number in plain digits, between two bounds."""

    def __init__(self, *, least: int, most: int | None = None, **kwargs: Any) -> None:
        super().__init__(widget=forms.NumberInput(attrs={"min": least, **({"max": most} if most else {})}), **kwargs)
        self.least, self.most = least, most

    def to_python(self, value: Any) -> int | None:
        text = str(value or "").strip()
        if not text:
            return None
        if not re.fullmatch(r"[+-]?[0-9]{1,30}", text):
            raise ValidationError(_("A whole number is required."))
        number = int(text)
        if number < self.least:
            raise ValidationError(_("Must be at least %(least)d.") % {"least": self.least})
        if self.most is not None and number > self.most:
            raise ValidationError(_("Must be at most %(most)d.") % {"most": self.most})
        return number


class FreeText(forms.Field):
    """Any text; one that no row can store matches nothing."""

    def to_python(self, value: Any) -> str:
        text = str(value or "")
        return spelled(text) or text


class Filter(django_filters.Filter):  # type: ignore[misc]  # django-filter has no types
    """Filter by equality; without `by` the view filters."""

    def __init__(self, by: str = "", **kwargs: Any) -> None:
        super().__init__(field_name=by or None, **kwargs)
        self.by = by

    def filter(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        return rows.filter(**{self.by: value}) if self.by and value not in (None, "") else rows


class Number(Filter):
    field_class = WholeNumber


class Moment(Filter):
    field_class = Instant


class Text(Filter):
    field_class = FreeText

    def filter(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        return super().filter(rows, value) if not value or is_storable(value) else rows.none()


class Choice(Filter):
    field_class = forms.ChoiceField

    def __init__(self, by: str = "", *, choices: Any, **kwargs: Any) -> None:
        super().__init__(by, choices=[("", "---------"), *choices], **kwargs)


class Flag(Choice):
    def __init__(self, by: str = "", **kwargs: Any) -> None:
        super().__init__(by, choices=[("true", _("yes")), ("false", _("no"))], **kwargs)

    def filter(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        return super().filter(rows, value == "true") if value else rows


class HasValue(Flag):
    """Filter by whether a nullable column has a value."""

    def __init__(self, column: str, **kwargs: Any) -> None:
        super().__init__(f"{column}__isnull", **kwargs)

    def filter(self, rows: QuerySet[Any], value: Any) -> QuerySet[Any]:
        return super().filter(rows, "false" if value == "true" else "true") if value else rows


class SagaTypeField(forms.ChoiceField):
    """A saga type by either of its names; the value is the stored one."""

    def clean(self, value: Any) -> str:
        return type_names.stored(super().clean(value))


class SagaTypeChoice(Choice):
    field_class = SagaTypeField

    def __init__(self, **kwargs: Any) -> None:
        # Read at each request: tests list other saga types.
        Filter.__init__(self, choices=lambda: [("", "---------"), *type_names.spellings()], **kwargs)


class Parameters(django_filters.FilterSet):  # type: ignore[misc]  # django-filter has no types
    """The parameters of an address; this base has none. `values` are the checked ones, by name."""

    DEFAULTS: ClassVar[Mapping[str, int]] = {"limit": 20, "offset": 0}

    @classmethod
    def read(cls, request: Request, rows: QuerySet[Any] | None = None) -> Parameters:
        """Check a request's parameters. Raises BadRequest, which names every wrong parameter."""
        given = cls(data=request.query_params, queryset=rows if rows is not None else _no_rows())
        errors = {name: [str(_("Unknown parameter."))] for name in request.query_params if not cls.takes(name)}
        for name, values in request.query_params.lists():
            if len(values) > 1 and name not in errors:
                errors[name] = [str(_("Given more than once."))]
        if not given.form.is_valid():
            errors |= {name: [str(error) for error in found] for name, found in given.form.errors.items()}
        if errors:
            raise BadRequest(errors)
        return given

    @classmethod
    def form_of(cls, request: Request) -> Any:
        """Return the parameters as a form, filled in from the request."""
        return cls(data=request.query_params, queryset=_no_rows()).form

    @classmethod
    def takes(cls, name: str) -> bool:
        return name in cls.base_filters or name in ALWAYS

    @property
    def values(self) -> dict[str, Any]:
        """The given parameters, checked."""
        return {name: value for name, value in self.form.cleaned_data.items() if value not in (None, "")}

    @property
    def page(self) -> dict[str, int]:
        """limit and offset, given or default."""
        return {name: self.values.get(name, default) for name, default in self.DEFAULTS.items()}

    def rows(self) -> QuerySet[Any]:
        """Return the filtered rows."""
        rows: QuerySet[Any] = self.filter_queryset(self.queryset.all())
        return rows


def _no_rows() -> QuerySet[Any]:
    from sagas.models import SagaLog

    return SagaLog.objects.none()


class NoParameters(Parameters):
    """No parameters."""


class LimitedParameters(Parameters):
    limit = Number(least=1, most=LIMIT_MAXIMUM, label=_("maximum number of items"))


class PagedParameters(LimitedParameters):
    offset = Number(least=0, label=_("offset"))


class SagasParameters(PagedParameters):
    status = Choice(choices=SagaStatusChoice.choices, label=_("status"))
    from_date = Moment(label=_("started at or after"))
    to_date = Moment(end_of_day=True, label=_("started at or before"))
    task_id = Text(label=lazy_noun("key_id"))
    image_id = Text(label=lazy_noun("entity_id"))
    saga_type = SagaTypeChoice(label=_("saga type"))


class StepsParameters(PagedParameters):
    status = Choice("status", choices=[(status.value, status.value) for status in StepStatus], label=_("status"))
    service = Text("service", label=_("service"))
    entity = Text("entity", label=_("entity"))
    step_type = Text("step_type", label=_("step"))


class LanesParameters(PagedParameters):
    outcome = Choice("outcome", choices=LaneOutcome.choices, label=_("outcome"))
    failed = Flag("failed", label=_("failed"))
    entity = Text("entity", label=_("entity"))


class CommandsParameters(PagedParameters):
    status = Choice("status", choices=CommandStatus.choices, label=_("status"))
    service = Text("service", label=_("service"))
    entity = Text("entity", label=_("entity"))
    name = Text("name", label=_("command"))
    by_hand = Flag("by_hand", label=_("manual"))
    confirmed_unsent = HasValue("confirmed_unsent_at", label=_("confirmed, never sent"))
    held = HasValue("held_since", label=_("held"))


class EventsParameters(PagedParameters):
    type = Text(label=_("type"))
    entity = Text(label=_("entity"))
    payload = Flag(label=_("include message contents"))


class ParkedGroupsParameters(PagedParameters):
    dismissed = Flag(label=_("dismissed events instead of waiting ones"))


class QuarantineParameters(PagedParameters):
    status = Choice("status", choices=QuarantineStatus.choices, label=_("status"))
    code = Choice("code", choices=QuarantineCode.choices, label=_("reason"))
    topic = Text("topic", label=_("topic"))


class JobsParameters(PagedParameters):
    status = Choice("status", choices=JobStatus.choices, label=_("status"))
    action = Choice("action", choices=reading.choice_of_actions(), label=_("action"))


class JobItemsParameters(PagedParameters):
    status = Choice("status", choices=JobItemStatus.choices, label=_("status"))


class IncidentsParameters(PagedParameters):
    kind = Choice(choices=[(kind.name, kind.label) for kind in KINDS], label=_("kind"))
    ended = Flag(label=_("incidents that have ended instead of current ones"))


def described(parameters: type[Parameters]) -> list[OpenApiParameter]:
    """Return the parameters for the schema."""
    return [_described(name, item) for name, item in parameters.base_filters.items()]


def _described(name: str, item: Filter) -> OpenApiParameter:
    field = item.field
    schema: dict[str, Any] = {"type": "string"}
    if isinstance(field, WholeNumber):
        schema = {"type": "integer", "minimum": field.least, "default": Parameters.DEFAULTS[name]}
        schema |= {} if field.most is None else {"maximum": field.most}
    elif isinstance(field, forms.ChoiceField):
        schema["enum"] = [str(value) for value, _label in field.choices if value]  # type: ignore[union-attr, misc]
    text = item.label
    if isinstance(field, Instant):
        text = format_lazy("{}; ISO 8601 (UTC without an offset), or a date", text)
    return OpenApiParameter(name, schema, OpenApiParameter.QUERY, description=text)
