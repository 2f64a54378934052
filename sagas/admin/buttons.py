"""The buttons of a page: the decisions that are possible now, first the one that the page's sentence names.

`sagas.actions` tells whether a decision is possible; it runs the same checks when the decision is carried out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from bridge.models import Event
from compensation import switches
from compensation.models import Command, CommandStatus, ExhaustedBy
from sagas import actions
from sagas.admin import formatting, labels
from sagas.models import Action, Lane, Parked, SagaLog
from sagas.queries import Waiting

# What cannot be reversed and leaves something undone, or undoes something, is behind "More".
DESTRUCTIVE = frozenset({Action.FORCE_COMPENSATION, Action.CANCEL, Action.TERMINATE, Action.SKIP, Action.WITHDRAW})
# The order in which the decisions are offered.
ORDER = (
    *(Action.RESUME, Action.RETRY, Action.RELEASE, Action.MARK_DONE, Action.ATTACH, Action.ADOPT, Action.REQUEUE),
    *(Action.DISMISS, Action.DISMISS_MESSAGE, Action.RESUME_PUBLISHING, Action.PAUSE_PUBLISHING),
    *(Action.CANCEL, Action.FORCE_COMPENSATION, Action.SKIP, Action.WITHDRAW, Action.TERMINATE, Action.REPLAY),
)
# What the sentences of `sagas.queries.waiting` ask a person to do. The first possible one is the main button.
ASKED_FOR: Mapping[str, Sequence[Action]] = {
    "set_aside": (Action.RESUME,),
    "decision": (Action.RETRY, Action.MARK_DONE),
    "held": (Action.RELEASE,),
    "paused": (Action.RESUME_PUBLISHING,),
    "parked": (Action.ATTACH, Action.DISMISS),
}
OF_ALL_COMMANDS: Mapping[Action, Any] = {
    Action.RETRY: _("Retry all that need a decision"),
    Action.RELEASE: _("Release all held commands"),
    Action.MARK_DONE: _("Mark all open commands as done"),
}
OF_A_KEY: Mapping[Action, Any] = {
    Action.ATTACH: _("Attach all to a saga"),
    Action.ADOPT: _("Start a saga from it"),
    Action.DISMISS: _("Dismiss all"),
}
OF_AN_EVENT: Mapping[Action, Any] = {Action.ATTACH: _("Attach this event")}
# How many of the events that may belong to a saga are checked for one that can be attached.
LOOKED_AT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """One decision that is possible, as a link to its page. `kind`: main, danger (behind "More") or empty."""

    action: Action
    label: str
    url: str
    kind: str = ""


def of_saga(saga: SagaLog, waiting: Waiting | None) -> list[Button]:
    """Return the decisions on a saga, first the one that its sentence asks for. At most five queries."""
    main = _asked_for(saga, waiting)
    possible = actions.possible_on_saga(saga) - ({main.action} if main else set())
    return [*([main] if main else []), *_buttons(possible, saga=saga.id)]


def of_lane(lane: Lane) -> list[Button]:
    """Return the decisions on one lane."""
    return _buttons(actions.possible_on_lane(lane), saga=lane.saga_id, lane=lane.entity)


def of_commands(saga: SagaLog) -> list[Button]:
    """Return the decisions on all open commands of a saga. One query."""
    return _buttons(actions.possible_on_commands_of(saga), saga=saga.id)


def of_command(command: Command, saga: SagaLog | None) -> list[Button]:
    """Return the decisions on one command; only resuming its saga if that is blocked by an error."""
    if saga is not None and saga.set_aside_at is not None:
        return [_button(Action.RESUME, "main", saga=saga.id)]
    needs_decision = command.status == CommandStatus.EXHAUSTED or command.status in (
        CommandStatus.SKIPPED,
        CommandStatus.WITHDRAWN,
    )
    if command.held_since is not None:
        return _buttons(actions.possible_on_command(command, saga), main=(Action.RELEASE,), ids=command.id)
    order = (Action.MARK_DONE,) if command.exhausted_by == ExhaustedBy.MANUAL else (Action.RETRY, Action.MARK_DONE)
    return _buttons(actions.possible_on_command(command, saga), main=order if needs_decision else (), ids=command.id)


def of_group(use: actions.KeyUse, suggestion: SagaLog | None, *, waits: bool, main: bool = True) -> list[Button]:
    """Return the decisions on all unmatched events of a key. `waits`: whether one of them is not dismissed."""
    if not use.key:
        return []
    if suggestion is not None and suggestion.set_aside_at is not None:
        return [_button(Action.RESUME, "main", saga=suggestion.id)]
    possible = actions.possible_with_key(use, suggestion)
    target = {"stream": use.stream, "key": use.key}
    offered: dict[Action, dict[str, str]] = {**possible, **({Action.DISMISS: {}} if waits else {})}
    return [
        _button(
            action,
            "main" if main and action is Action.ATTACH else "",
            OF_A_KEY[action],
            **target,
            **offered[action],
        )
        for action in sorted(offered, key=ORDER.index)
    ]


def of_event(row: Parked, event_id: str, suggestion: SagaLog | None, *, main: bool = False) -> list[Button]:
    """Return the decisions on one unmatched event. The form asks for a lane if the event needs one."""
    target: dict[str, Any] = {"stream": row.stream, "event": event_id}
    if suggestion is not None and not actions.can_take_event(suggestion, row):
        return [_button(Action.RESUME, "main" if main else "", saga=suggestion.id)] if suggestion.set_aside_at else []
    given = {"saga": suggestion.id} if suggestion is not None else {}
    found = [_button(Action.ATTACH, "main" if main else "", OF_AN_EVENT[Action.ATTACH], **target, **given)]
    return [*found, *([] if row.dismissed_at else [_button(Action.DISMISS, **target)])]


def of_message(possible: Collection[Action], pk: int) -> list[Button]:
    """Return the decisions on a quarantined message."""
    return _buttons(possible, main=(Action.REQUEUE,), message=pk)


def of_switch(service: str | None, current: switches.Switches) -> list[Button]:
    """Return the decisions on the switch of a service, or of all services (None)."""
    possible = actions.possible_on_publishing(service, current)
    target = {"service": service, "only": "switch"} if service else {}
    return _buttons(possible, main=(Action.RESUME_PUBLISHING,), **target)


def of_breaker(service: str, current: switches.Switches) -> list[Button]:
    """Return the decisions on the circuit breaker of a service."""
    possible = actions.possible_on_breaker(service, current)
    return _buttons(possible, main=(Action.RESUME_PUBLISHING,), service=service, only="breaker")


def _asked_for(saga: SagaLog, waiting: Waiting | None) -> Button | None:
    """Return the decision that the saga's sentence names, with its target."""
    asked = ASKED_FOR.get(waiting.kind, ()) if waiting is not None else ()
    if waiting is None or not asked:
        return None
    if waiting.kind == "set_aside":
        return _button(Action.RESUME, "main", saga=saga.id)
    if waiting.kind == "paused":
        return _resume_publishing(waiting.service or "")
    if waiting.kind == "parked":
        return _attach_to(saga)
    possible = actions.possible_on_commands_of(saga)
    action = next((action for action in asked if action in possible), None)
    return _button(action, "main", OF_ALL_COMMANDS[action], saga=saga.id) if action else None


def _resume_publishing(service: str) -> Button | None:
    """Return the button that resumes a service: for the switch of all services first, which overrides the others."""
    current = switches.read()
    name = None if current.everything_paused else service
    found = of_switch(name, current) if current.is_switched_off(service) else of_breaker(service, current)
    return next(iter(found), None)


def _attach_to(saga: SagaLog) -> Button | None:
    """Return the button that attaches the first likely unmatched event, with all of its key if possible."""
    rows = list(Parked.objects.filter(suggestion=saga.id, dismissed_at__isnull=True).order_by("event")[:LOOKED_AT])
    uses = actions.uses_of_keys((row.stream, row.key) for row in rows if row.key)
    for row in rows:
        use = uses.get((row.stream, row.key))
        more = actions.possible_with_key(use, saga).get(Action.ATTACH) if use is not None else None
        if more:
            return _button(Action.ATTACH, "main", stream=row.stream, key=row.key, **more)
    first = rows[0] if rows else None
    if first is None or not actions.can_take_event(saga, first):
        return None
    event_id = Event.objects.filter(pk=first.event).values_list("event_id", flat=True).first()
    return _button(Action.ATTACH, "main", stream=first.stream, event=event_id, saga=saga.id)


def _buttons(possible: Collection[Action], *, main: Iterable[Action] = (), **target: Any) -> list[Button]:
    first = next((action for action in main if action in possible), None)
    rest = sorted(set(possible) - {first}, key=ORDER.index)
    leading = [] if first is None else [_button(first, "main", **target)]
    return leading + [_button(action, "danger" if action in DESTRUCTIVE else "", **target) for action in rest]


def _button(action: Action, kind: str = "", label: Any = "", **target: Any) -> Button:
    text = str(label or labels.ACTIONS[action])
    return Button(action=action, label=text, url=formatting.decide_url(action.value, **target), kind=kind)
