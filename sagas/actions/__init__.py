"""The decisions of people: one function each, used by the admin, the API and manage.py alike.

Each takes the saga's lock, applies pending events, checks, appends the decision to the log, applies it and writes the
audit row, in one transaction. With `request.dry_run` the same code runs and is rolled back.
"""

from sagas.actions.action import ActionRequest, ActionResult, CommandPreview
from sagas.actions.on_commands import (
    CommandSelection,
    decide_command,
    decide_commands,
    is_anything_unsent,
    possible_in_state,
    possible_on_command,
    possible_on_commands_of,
)
from sagas.actions.on_messages import dismiss_message, possible_on_message, requeue_message
from sagas.actions.on_parked import (
    KeyUse,
    adopt,
    attach,
    can_take_event,
    dismiss,
    needs_lane,
    possible_with_key,
    uses_of_keys,
)
from sagas.actions.on_publishing import possible_on_breaker, possible_on_publishing, services, set_publishing
from sagas.actions.on_replay import replay
from sagas.actions.on_saga import (
    cancel,
    force_compensation,
    possible_on_lane,
    possible_on_saga,
    resume,
    terminate,
)
from sagas.actions.reason import is_blank
from sagas.actions.wording import sentences

__all__ = [
    "ActionRequest",
    "ActionResult",
    "CommandPreview",
    "CommandSelection",
    "KeyUse",
    "adopt",
    "attach",
    "can_take_event",
    "cancel",
    "decide_command",
    "decide_commands",
    "dismiss",
    "dismiss_message",
    "force_compensation",
    "is_anything_unsent",
    "is_blank",
    "needs_lane",
    "possible_in_state",
    "possible_on_breaker",
    "possible_on_command",
    "possible_on_commands_of",
    "possible_on_lane",
    "possible_on_message",
    "possible_on_publishing",
    "possible_on_saga",
    "possible_with_key",
    "replay",
    "requeue_message",
    "resume",
    "sentences",
    "services",
    "set_publishing",
    "terminate",
    "uses_of_keys",
]
