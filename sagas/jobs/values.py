"""The values of a decision's own fields, as a job keeps them for all of its items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from sagas.actions import ActionSpec, Field
from sagas.errors import Invalid
from sagas.models import Job
from sagas.queries.ids import is_storable


def fields_of(spec: ActionSpec) -> list[Field]:
    """Return the fields whose values a job takes: none that chooses items itself, or is fixed by its being a decision.

    A lane belongs to one saga; of many, only whole sagas can be decided on. An event may name one.
    """
    return [
        own
        for own in spec.fields
        if not (own.selects or own.name == spec.only_with or (own.hidden and own.name in ("lane", "only")))
    ]


def checked(spec: ActionSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are given, as JSON. Raises Invalid for one that the decision does not have."""
    known = {own.name for own in fields_of(spec)}
    foreign = sorted(set(values) - known)
    if foreign:
        raise Invalid(_("this action does not take %(name)s") % {"name": foreign[0]})
    given = {name: value for name, value in values.items() if value not in (None, "")}
    for name, value in given.items():
        if not isinstance(value, int) and not is_storable(str(value)):
            raise Invalid(_("invalid value of %(name)s") % {"name": name})
    return {name: value if isinstance(value, int) else str(value) for name, value in given.items()}


def need_required(spec: ActionSpec, values: Mapping[str, Any], job: Job) -> None:
    """Raise Invalid if a value is required and neither the job nor each of its items has it."""
    needed = [own.name for own in fields_of(spec) if own.required and not own.of_many_help and own.name not in values]
    for name in needed:
        if job.items.filter(values__has_key=name).count() < job.total:
            raise Invalid(_("%(name)s is required") % {"name": name})
