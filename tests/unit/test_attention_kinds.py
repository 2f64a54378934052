"""The table of the kinds of attention, and what is derived from it."""

from __future__ import annotations

import pytest
from rest_framework.serializers import ChoiceField

from sagas import rights
from sagas.admin.start import _badge
from sagas.api.serializers import AttentionItemSerializer
from sagas.attention_kinds import BY_NAME, KINDS, AttentionKind, readable
from sagas.queries.attention import FINDERS

RIGHTS = {value for name, value in vars(rights).items() if name.startswith("VIEW_")}


def test_each_kind_has_one_row_and_one_finder() -> None:
    assert len(BY_NAME) == len(KINDS)
    assert set(FINDERS) == set(BY_NAME)


def test_no_kind_is_hidden_from_everybody() -> None:
    assert {kind.right for kind in KINDS} <= RIGHTS
    assert readable(lambda _right: True) == set(BY_NAME)
    assert readable(lambda _right: False) == set()
    assert readable(lambda right: right == rights.VIEW_PARKED) == {"parked"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_start_page_and_the_api_know_each_kind(kind: AttentionKind) -> None:
    assert _badge(kind.name)["label"]
    field = AttentionItemSerializer().fields["kind"]
    assert isinstance(field, ChoiceField)
    assert kind.name in field.choices
