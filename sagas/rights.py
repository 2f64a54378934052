"""The permissions that the admin and the API require: Django's view permissions, and two of our own."""

from __future__ import annotations

from collections.abc import Callable

# View a saga with its steps, lanes, log and timeline, and what it waits for.
VIEW_SAGAS = "sagas.view_sagalog"
VIEW_COMMANDS = "compensation.view_command"
VIEW_PARKED = "sagas.view_parked"
VIEW_QUARANTINE = "bridge.view_quarantined"
VIEW_PUBLISHING = "compensation.view_switch"
VIEW_DECISIONS = "sagas.view_decision"
VIEW_EVENTS = "bridge.view_event"
# Make any decision.
OPERATE = "sagas.operate_saga"
# View the contents of messages; required in addition to the right to see the event.
VIEW_PAYLOAD = "sagas.view_payload"

# The permission for each kind of attention item. What a saga waits for is also on its page: same permission.
_ATTENTION = {
    "exhausted": VIEW_SAGAS,
    "held": VIEW_SAGAS,
    "never_answered": VIEW_SAGAS,
    "overdue": VIEW_SAGAS,
    "confirmed_unsent": VIEW_SAGAS,
    "overtaken": VIEW_SAGAS,
    "parked": VIEW_PARKED,
    "quarantined": VIEW_QUARANTINE,
    "set_aside": VIEW_SAGAS,
    "unclear": VIEW_SAGAS,
    "stalled": VIEW_SAGAS,
    "paused": VIEW_PUBLISHING,
    "counted": VIEW_QUARANTINE,
    "blocked": VIEW_PUBLISHING,
    "unread": VIEW_SAGAS,
    "undelivered": VIEW_SAGAS,
    "breaker": VIEW_PUBLISHING,
}


def attention_kinds(has: Callable[[str], bool]) -> frozenset[str]:
    """Return the kinds of attention items that a person may see. has: whether the person has a permission."""
    return frozenset(kind for kind, right in _ATTENTION.items() if has(right))
