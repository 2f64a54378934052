"""The kinds of incidents: those of the attention list, and those that only incidents have."""

from __future__ import annotations

from collections.abc import Callable

from django.utils.translation import gettext_lazy as _

from sagas import attention_kinds
from sagas.attention_kinds import AttentionKind
from sagas.rights import VIEW_SAGAS

KINDS = (*attention_kinds.KINDS, AttentionKind("late_stage", _("overdue stage"), VIEW_SAGAS))
# For the schema, which calls a set of values by one name.
CHOICES = [(kind.name, kind.name) for kind in KINDS]
BY_NAME = {kind.name: kind for kind in KINDS}


def readable(has: Callable[[str], bool]) -> frozenset[str]:
    """Return the names of the kinds that a person may see. has: whether the person has a permission."""
    return frozenset(kind.name for kind in KINDS if has(kind.right))
