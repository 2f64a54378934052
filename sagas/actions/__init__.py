"""The decisions of people: declared once in `registry`, used by the admin, the API and manage.py alike.

Each takes the saga's lock, applies pending events, checks, appends the decision to the log, applies it and writes the
audit row, in one transaction. With `request.dry_run` the same code runs and is rolled back.
"""

from sagas.actions.action import ActionRequest, ActionResult, CommandPreview
from sagas.actions.on_commands import CommandView, ids_of, is_anything_unsent, views_in, views_of
from sagas.actions.on_incidents import IncidentView
from sagas.actions.on_jobs import JobAction
from sagas.actions.on_messages import MessageView
from sagas.actions.on_parked import EventView, KeyUse, KeyView, uses_of_keys
from sagas.actions.on_publishing import BreakerView, SwitchView, services
from sagas.actions.on_saga import OneLaneView, WholeSagaView, in_latest_run, known_lanes, sagas_like
from sagas.actions.reason import is_blank
from sagas.actions.registry import ACTIONS, Action, get, in_jobs, label_of, of_target, on_many_sagas, possible
from sagas.actions.spec import ActionSpec, Field, FieldKind, NothingToDo, Target
from sagas.actions.wording import of_closing, sentences

__all__ = [
    "ACTIONS",
    "Action",
    "ActionRequest",
    "ActionResult",
    "ActionSpec",
    "BreakerView",
    "CommandPreview",
    "CommandView",
    "EventView",
    "Field",
    "FieldKind",
    "IncidentView",
    "JobAction",
    "KeyUse",
    "KeyView",
    "MessageView",
    "NothingToDo",
    "OneLaneView",
    "SwitchView",
    "Target",
    "WholeSagaView",
    "get",
    "ids_of",
    "in_jobs",
    "in_latest_run",
    "is_anything_unsent",
    "is_blank",
    "known_lanes",
    "label_of",
    "of_closing",
    "of_target",
    "on_many_sagas",
    "possible",
    "sagas_like",
    "sentences",
    "services",
    "uses_of_keys",
    "views_in",
    "views_of",
]
