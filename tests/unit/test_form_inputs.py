"""Every input of a decision's form looks like an input."""

from __future__ import annotations

from pathlib import Path

import pytest
from django import forms

from sagas import actions
from sagas.actions import ActionSpec
from sagas.admin.forms import form_of

CSS = Path("sagas/static/sagas/staff.css").read_text()


@pytest.mark.parametrize("spec", actions.ACTIONS.values(), ids=lambda spec: spec.name)
def test_every_visible_input_has_a_border(spec: ActionSpec) -> None:
    [rule] = [line for line in CSS.splitlines() if line.startswith(".sg-form input") and "border:" in line]
    selectors = {selector.strip() for selector in rule.partition("{")[0].split(",")}
    for field in form_of(spec).base_fields.values():
        widget = field.widget
        if isinstance(widget, forms.TextInput | forms.NumberInput | forms.DateTimeInput) and not widget.is_hidden:
            assert f".sg-form input[type={widget.input_type}]" in selectors
