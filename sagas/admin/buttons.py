"""The buttons of a page: the decisions that are possible now, first the one that the page's sentence names.

`sagas.actions` tells whether a decision is possible; it runs the same checks when the decision is carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridge import readings
from compensation import switches
from compensation.models import Command, CommandStatus, ExhaustedBy
from sagas import actions, nouns
from sagas.actions import (
    Action,
    ActionSpec,
    BreakerView,
    CommandView,
    EventView,
    KeyView,
    OneLaneView,
    SwitchView,
    Target,
    WholeSagaView,
)
from sagas.admin import formatting
from sagas.models import Lane, Parked, SagaLog
from sagas.nouns import Nouns
from sagas.queries import Waiting

# How many of the events that may belong to a saga are checked for one that can be attached.
LOOKED_AT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """One decision that is possible, as a link to its page. `kind`: main, danger (behind "More") or empty."""

    action: str
    label: str
    url: str
    kind: str = ""


def of_saga(saga: SagaLog, waiting: Waiting | None) -> list[Button]:
    """Return the decisions on a saga, first the one that its sentence asks for. At most five queries."""
    words = nouns.of(saga.saga_type)
    main = _asked_for(saga, waiting)
    others = [spec for spec in actions.possible(WholeSagaView(saga)) if main is None or spec.name != main.action]
    found = [*([main] if main else []), *_buttons(others, words, saga=saga.id)]
    return [_with_the_known_number(button, saga) for button in found]


def _with_the_known_number(button: Button, saga: SagaLog) -> Button:
    """Let the form that closes an intake begin with the number of lanes that are known, which is the usual answer."""
    if button.action != Action.CLOSE_RETRIEVAL or not saga.lanes_known:
        return button
    return replace(button, url=formatting.decide_url(button.action, saga=saga.id, images=saga.lanes_known))


def of_lane(lane: Lane) -> list[Button]:
    """Return the decisions on one lane."""
    possible = actions.possible(OneLaneView(lane.saga, lane))
    return _buttons(possible, nouns.of(lane.saga.saga_type), saga=lane.saga_id, lane=lane.entity)


def of_commands(saga: SagaLog) -> list[Button]:
    """Return the decisions on all open commands of a saga. One query."""
    return _buttons(actions.possible(*actions.views_of(saga)), nouns.of(saga.saga_type), saga=saga.id)


def of_command(command: Command, saga: SagaLog | None) -> list[Button]:
    """Return the decisions on one command; only resuming its saga if that is blocked by an error."""
    if saga is not None and saga.set_aside_at is not None:
        return [_resume(saga)]
    needs_decision = command.status in (CommandStatus.EXHAUSTED, CommandStatus.SKIPPED, CommandStatus.WITHDRAWN)
    kind = "held" if command.held_since is not None else "decision" if needs_decision else ""
    asked = [spec.name for spec in _asked_by(kind)]
    if command.exhausted_by == ExhaustedBy.MANUAL and kind == "decision":
        asked = [Action.MARK_DONE]
    return _buttons(actions.possible(CommandView(command, saga)), nouns.of(command.stream), main=asked, ids=command.id)


def of_group(use: actions.KeyUse, suggestion: SagaLog | None, *, waits: bool, main: bool = True) -> list[Button]:
    """Return the decisions on all unmatched events of a key. `waits`: whether one of them is not dismissed."""
    if not use.key:
        return []
    if suggestion is not None and suggestion.set_aside_at is not None:
        return [_resume(suggestion)]
    target = {"stream": use.stream, "key": use.key}
    return [
        _button(spec, "main" if main and spec.name == Action.ATTACH else "", KeyView, **target, **more)
        for spec, more in _on_key(use, suggestion, waits=waits)
    ]


def of_event(row: Parked, event_id: str, suggestion: SagaLog | None, *, main: bool = False) -> list[Button]:
    """Return the decisions on one unmatched event. The form asks for a lane if the event needs one."""
    target: dict[str, Any] = {"stream": row.stream, "event": event_id}
    possible = actions.possible(EventView(row=row, saga=suggestion))
    attach = actions.get(Action.ATTACH)
    if suggestion is not None and attach not in possible:
        return [_resume(suggestion, main=main)] if suggestion.set_aside_at else []
    given = {"saga": suggestion.id} if suggestion is not None else {}
    return [
        _button(
            spec, "main" if main and spec is attach else "", EventView, **target, **(given if spec is attach else {})
        )
        for spec in possible
    ]


def of_message(possible: Sequence[ActionSpec], pk: int) -> list[Button]:
    """Return the decisions on a quarantined message."""
    return _buttons(possible, main=(Action.REQUEUE,), message=pk)


def of_switch(service: str | None, current: switches.Switches) -> list[Button]:
    """Return the decisions on the switch of a service, or of all services (None)."""
    target = {"service": service, "only": "switch"} if service else {}
    return _buttons(actions.possible(SwitchView(service, current)), main=(Action.RESUME_PUBLISHING,), **target)


def of_breaker(service: str, current: switches.Switches) -> list[Button]:
    """Return the decisions on the circuit breaker of a service."""
    possible = actions.possible(BreakerView(service, current))
    return _buttons(possible, main=(Action.RESUME_PUBLISHING,), service=service, only="breaker")


def _asked_by(kind: str) -> list[ActionSpec]:
    """Return the decisions that a sentence of `sagas.queries.waiting` asks for; the first possible one is the main."""
    return [spec for spec in actions.ACTIONS.values() if kind in spec.asked_by]


def _asked_for(saga: SagaLog, waiting: Waiting | None) -> Button | None:
    """Return the decision that the saga's sentence names, with its target."""
    if waiting is None:
        return None
    if waiting.kind == "paused":
        return _resume_publishing(waiting.service or "")
    if waiting.kind == "parked":
        return _attach_to(saga)
    asked = _asked_by(waiting.kind)
    if not asked:
        return None
    views = [
        WholeSagaView(saga),
        *(actions.views_of(saga) if any(spec.target is Target.COMMANDS for spec in asked) else []),
    ]
    possible = actions.possible(*views)
    first = next((spec for spec in asked if spec in possible), None)
    return _button(first, "main", WholeSagaView, nouns.of(saga.saga_type), saga=saga.id) if first else None


def _on_key(use: actions.KeyUse, suggestion: SagaLog | None, *, waits: bool) -> list[tuple[ActionSpec, dict[str, str]]]:
    """Return the decisions on a key, each with the known part of its target: the suggested saga, if it can take it."""
    anybody = KeyView(use=use, waits=waits)
    found: list[tuple[ActionSpec, dict[str, str]]] = [(spec, {}) for spec in actions.possible(anybody)]
    if suggestion is None:
        return found
    lane = use.attached[1] if use.attached else None
    named = {"saga": str(suggestion.id), **({"lane": lane} if lane else {})}
    taken = KeyView(use=use, saga=suggestion, lane=lane, waits=waits)
    return [
        (spec, named if spec.name == Action.ATTACH and not spec.refusal(taken) else {})
        for spec in actions.possible(anybody, taken)
    ]


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
    attach = actions.get(Action.ATTACH)
    for row in rows:
        use = uses.get((row.stream, row.key))
        more = dict(_on_key(use, saga, waits=True)).get(attach) if use is not None else None
        if more:
            return _button(attach, "main", None, stream=row.stream, key=row.key, **more)
    first = rows[0] if rows else None
    if first is None or attach not in actions.possible(EventView(row=first, saga=saga)):
        return None
    event = readings.events([first.event])[first.event]
    return _button(attach, "main", stream=first.stream, event=event.event_id, saga=saga.id)


def _resume(saga: SagaLog, *, main: bool = True) -> Button:
    return _button(actions.get(Action.RESUME), "main" if main else "", saga=saga.id)


def _buttons(
    possible: Iterable[ActionSpec], words: Nouns | None = None, /, *, main: Iterable[str] = (), **target: Any
) -> list[Button]:
    found = {spec.name: spec for spec in possible}
    first = next((found.pop(name) for name in main if name in found), None)
    leading = [] if first is None else [_button(first, "main", None, words, **target)]
    others = ((spec, "danger" if spec.behind_more else "") for spec in found.values())
    return leading + [_button(spec, kind, None, words, **target) for spec, kind in others]


def _button(
    spec: ActionSpec, kind: str = "", view: type | None = None, words: Nouns | None = None, /, **target: Any
) -> Button:
    label = spec.label_on(view, words or nouns.shared())
    return Button(action=spec.name, label=label, url=formatting.decide_url(spec.name, **target), kind=kind)
