"""The kinds of what needs attention, once: their order, names, labels, rights and colours are derived from here.

A new kind: a row here, and how its items are found and described in `sagas.queries.attention_items`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from sagas.rights import VIEW_PARKED, VIEW_PUBLISHING, VIEW_QUARANTINE, VIEW_SAGAS


@dataclass(frozen=True, slots=True)
class AttentionKind:
    """One kind of item. name: as in the API; label: for people; right: what a reader needs; red: shown as an alarm."""

    name: str
    label: Any
    right: str
    red: bool = False


# The most severe first: what only a person can move on, then what is held back, then what may resolve automatically.
# What a saga waits for is also on its page: same right.
KINDS = (
    AttentionKind("set_aside", _("blocked by an error"), VIEW_SAGAS, red=True),
    AttentionKind("exhausted", _("needs a decision"), VIEW_SAGAS, red=True),
    AttentionKind("held", _("held"), VIEW_SAGAS, red=True),
    AttentionKind("never_answered", _("never answered"), VIEW_SAGAS, red=True),
    AttentionKind("unread", _("topic not read"), VIEW_SAGAS, red=True),
    AttentionKind("undelivered", _("messages not delivered"), VIEW_SAGAS, red=True),
    AttentionKind("overdue", _("overdue"), VIEW_SAGAS, red=True),
    AttentionKind("confirmed_unsent", _("confirmed, never sent"), VIEW_SAGAS),
    AttentionKind("overtaken", _("done, no longer required"), VIEW_SAGAS),
    AttentionKind("breaker", _("circuit breaker"), VIEW_PUBLISHING, red=True),
    AttentionKind("blocked", _("topic does not accept commands"), VIEW_PUBLISHING),
    AttentionKind("paused", _("paused"), VIEW_PUBLISHING),
    AttentionKind("unclear", _("unclear event"), VIEW_SAGAS),
    AttentionKind("stalled", _("no progress"), VIEW_SAGAS),
    AttentionKind("quarantined", _("unreadable message"), VIEW_QUARANTINE),
    AttentionKind("counted", _("unreadable messages, only counted"), VIEW_QUARANTINE),
    AttentionKind("parked", _("unmatched event"), VIEW_PARKED),
)
BY_NAME = {kind.name: kind for kind in KINDS}


def readable(has: Callable[[str], bool]) -> frozenset[str]:
    """Return the names of the kinds that a person may see. has: whether the person has a permission."""
    return frozenset(kind.name for kind in KINDS if has(kind.right))
