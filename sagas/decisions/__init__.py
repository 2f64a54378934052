"""What people may decide: one function each, behind admin, API and manage.py alike.

Each takes the saga's lock, applies what is pending, checks, appends the decision to the log and applies it, writes the
audit row: in one transaction. With `request.dry_run` the same code runs and is rolled back.
"""

from sagas.decisions.on_commands import CommandSelection, decide_command, decide_commands
from sagas.decisions.on_messages import dismiss_message, requeue_message
from sagas.decisions.on_parked import adopt, attach, dismiss
from sagas.decisions.on_publishing import services, set_publishing
from sagas.decisions.on_replay import replay
from sagas.decisions.on_saga import cancel, force_compensation, resume, terminate
from sagas.decisions.press import CommandPreview, Outcome, Request

__all__ = [
    "CommandPreview",
    "CommandSelection",
    "Outcome",
    "Request",
    "adopt",
    "attach",
    "cancel",
    "decide_command",
    "decide_commands",
    "dismiss",
    "dismiss_message",
    "force_compensation",
    "replay",
    "requeue_message",
    "resume",
    "services",
    "set_publishing",
    "terminate",
]
