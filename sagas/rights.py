"""Which right each thing takes, for the admin and the API alike: Django's view permissions, and two of our own."""

from __future__ import annotations

from collections.abc import Callable

# A saga with its steps, lanes, log and timeline, and what it waits for.
VIEW_SAGAS = "sagas.view_sagalog"
VIEW_COMMANDS = "compensation.view_command"
VIEW_PARKED = "sagas.view_parked"
VIEW_QUARANTINE = "bridge.view_quarantined"
VIEW_PUBLISHING = "compensation.view_switch"
# Every decision.
OPERATE = "sagas.operate_saga"
# What messages carry, on top of the right to see the event.
VIEW_PAYLOAD = "sagas.view_payload"

# What the attention queue shows: what a saga waits for is told on its page too.
_ATTENTION = {
    "exhausted": VIEW_SAGAS,
    "held": VIEW_SAGAS,
    "overdue": VIEW_SAGAS,
    "confirmed_unsent": VIEW_SAGAS,
    "parked": VIEW_PARKED,
    "quarantined": VIEW_QUARANTINE,
    "set_aside": VIEW_SAGAS,
    "stalled": VIEW_SAGAS,
    "paused": VIEW_PUBLISHING,
    "counted": VIEW_QUARANTINE,
    "blocked": VIEW_PUBLISHING,
    "unread": VIEW_SAGAS,
    "undelivered": VIEW_SAGAS,
    "breaker": VIEW_PUBLISHING,
}


def attention_kinds(has: Callable[[str], bool]) -> frozenset[str]:
    """Return the kinds of attention items that a person may see, who has the rights for which `has` is true."""
    return frozenset(kind for kind, right in _ATTENTION.items() if has(right))
