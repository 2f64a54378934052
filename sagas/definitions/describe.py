"""Describe a definition as a table, as a diagram or as data. Pure functions; all three contain the same information."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from sagas.engine.definition import (
    Compensation,
    Confirmation,
    Definition,
    Entity,
    Event,
    Fails,
    Meaning,
    StepStatus,
    meanings,
)

FORWARD = (StepStatus.STARTED, StepStatus.COMPLETED)
EVENT_HEAD = ("event", "step", "becomes", "about", "also", "topics")
# What answers a command besides the events that a definition names.
_OTHER_ANSWERS = {
    Confirmation.EVENT: (),
    Confirmation.PUBLISHED: ("its sending",),
    Confirmation.MANUAL: ("a person",),
}
COMMAND_HEAD = ("command", "to", "topic", "undoes", "required", "answered by", "after")


def data(definition: Definition) -> dict[str, Any]:
    """Return the definition as plain JSON data."""
    return {
        "name": definition.name,
        "title": definition.title,
        "version": definition.version,
        "key_field": definition.key_field,
        "entity_field": definition.entity_field,
        "restarts": definition.restarts,
        "events": [_event_data(definition, event) for event in definition.events],
        "commands": [_command_data(definition, item) for item in definition.compensations],
    }


def table(definition: Definition) -> str:
    """Return text for a terminal: the events and what each does, then the commands and which events answer each."""
    events = [row for event in definition.events for row in _event_rows(definition, event)]
    commands = [_command_row(definition, item) for item in definition.compensations]
    head = f"{definition.name} version {definition.version}"
    keys = f"one saga for each {definition.noun_of_key.one} ({definition.key_field})" + (
        f", with its {definition.noun_of_entity.many} ({definition.entity_field})" if definition.entity_field else ""
    )
    runs = ", may be started again" if definition.restarts else ""
    if definition.continues:
        runs += f"; for sagas of version {definition.continues} whose {definition.noun_of_key.one} was started again"
    parts = [f"{head}: {definition.title or definition.name}, {keys}{runs}", *_lines((EVENT_HEAD, *events))]
    return "\n".join([*parts, "", *_lines((COMMAND_HEAD, *commands))])


def mermaid(definition: Definition) -> str:
    """Return the definition as a Mermaid flowchart: the steps, the failures and the compensations."""
    return "\n".join(_Chart(definition).lines())


# --- texts ------------------------------------------------------------------------------------------------------------


def also(definition: Definition, event: Event, means: Meaning) -> list[str]:
    """Return what an event does besides changing its step, as short texts."""
    lane, lanes = definition.noun_of_entity.one, definition.noun_of_entity.many
    effects = [
        ("starts the saga", event.starts and means is event.means),
        (f"opens the {lane} in the run of its time", event.opening and means is event.means),
        (_fails(means, lane), means.fails is not None),
        (f"marks the {lane} as processed", means.processes),
        (f"proves {means.proves}", bool(means.proves)),
        (f"ends the {definition.intake_noun.one}", means.ends_intake),
        (f"announces the {lanes}", means.announces is not None),
        (f"confirms {means.confirms}", bool(means.confirms)),
        (f"refuses {means.refuses}", bool(means.refuses)),
        ("is the echo of our own compensation", means.echoes_undo),
        ("may carry a key of the service's own", event.own_key and means is event.means),
        (f"may be written {', '.join(event.aliases)}", bool(event.aliases) and means is event.means),
        (_success(event), event.success_field is not None and means is event.means),
        (f"stored {event.collapse_after} times, then counted", event.collapse_after > 0 and means is event.means),
    ]
    return [text for text, applies in effects if applies]


def _success(event: Event) -> str:
    stated = event.success_field
    return f"only if {stated.field} is {' or '.join(stated.success)}" if stated else ""


def _of(definition: Definition, event: Event) -> str:
    """Return whose step an event changes, in the words of the saga type."""
    saga, lane = definition.noun_of_key.one, definition.noun_of_entity.one
    return {
        Entity.SAGA: saga,
        Entity.LANE: lane,
        Entity.LANE_ELSE_SAGA: f"{lane}, else {saga}",
        Entity.EACH: f"each listed {lane}",
        Entity.EVENT: event.entity.value,
    }[event.entity]


def _fails(means: Meaning, lane: str) -> str:
    return {
        Fails.LANE: f"fails the {lane}",
        Fails.SAGA: "fails the saga",
        Fails.LANE_ELSE_SAGA: f"fails the {lane}, else the saga",
        Fails.UPLOAD: "reports a failed upload",
        None: "",
    }[means.fails]


def _event_label(event: Event, means: Meaning) -> str:
    """Return the name of an event, with a note if its content gives it this meaning."""
    if means is event.means:
        return event.type
    is_failure = event.success_field is not None and means is event.success_field.fails
    return f"{event.type} (by its {event.success_field.field if event.success_field and is_failure else 'text'})"


def _answers(definition: Definition, item: Compensation) -> list[str]:
    """Return the events that confirm a command, then those that refuse it."""
    found = [(_event_label(event, means), means) for event in definition.events for means in meanings(event)]
    confirming = [kind for kind, means in found if means.confirms == item.command]
    refusing = [f"{kind} (refuses)" for kind, means in found if means.refuses == item.command]
    return confirming + refusing


def _required(item: Compensation) -> str:
    return f"if {item.required_when}" if item.required_when else "always"


# --- data and table ---------------------------------------------------------------------------------------------------


def _event_data(definition: Definition, event: Event) -> dict[str, Any]:
    first = _meaning_data(definition, event, event.means)
    others = [
        {"field": other.field, "begins": other.begins, **_meaning_data(definition, event, other.means)}
        for other in event.instead
    ]
    return {
        "type": event.type,
        "aliases": list(event.aliases),
        "topics": list(event.topics),
        "of": event.entity.value,
        "starts": event.starts,
        "own_key": event.own_key,
        **first,
        "instead": others,
        "success_field": _success_field_data(definition, event),
        "collapse_after": event.collapse_after or None,
    }


def _success_field_data(definition: Definition, event: Event) -> dict[str, Any] | None:
    stated = event.success_field
    if stated is None:
        return None
    return {
        "field": stated.field,
        "success": list(stated.success),
        "failure": list(stated.failure),
        **_meaning_data(definition, event, stated.fails),
    }


def _meaning_data(definition: Definition, event: Event, means: Meaning) -> dict[str, Any]:
    return {
        "step": means.step.type if means.step else None,
        "service": means.step.service if means.step else None,
        "becomes": means.becomes.value if means.becomes else None,
        "also": also(definition, event, means),
    }


def _command_data(definition: Definition, item: Compensation) -> dict[str, Any]:
    retry = {name: value for name, value in asdict(item.retry).items() if value not in (None, ())}
    return {
        "command": item.command,
        "service": item.service,
        "topic": item.topic,
        "undoes": {"step": item.undoes.type, "service": item.undoes.service},
        "owed_when": item.required_when or None,
        "after": list(item.after),
        "confirmation": item.confirmation.value,
        "answered_by": _answers(definition, item),
        "data": dict(item.data),
        "retry": retry,
    }


def _event_rows(definition: Definition, event: Event) -> Iterator[tuple[str, ...]]:
    yield _event_row(definition, event.type, event, event.means, ", ".join(event.topics))
    for other in event.instead:
        yield _event_row(definition, f'  if {other.field} begins with "{other.begins}"', event, other.means, "")
    if event.success_field:
        yield _event_row(
            definition,
            f"  if {event.success_field.field} is {', '.join(event.success_field.failure)}",
            event,
            event.success_field.fails,
            "",
        )


def _event_row(definition: Definition, name: str, event: Event, means: Meaning, topics: str) -> tuple[str, ...]:
    step = f"{means.step.type} by {means.step.service}" if means.step else "–"
    becomes = means.becomes.value if means.becomes else "–"
    return name, step, becomes, _of(definition, event), ", ".join(also(definition, event, means)), topics


def _answered_by(definition: Definition, item: Compensation) -> str:
    return ", ".join((*_OTHER_ANSWERS[item.confirmation], *_answers(definition, item)))


def _command_row(definition: Definition, item: Compensation) -> tuple[str, ...]:
    undoes = f"{item.undoes.type} by {item.undoes.service}"
    after = ", ".join(item.after) or "–"
    return item.command, item.service, item.topic, undoes, _required(item), _answered_by(definition, item), after


def _lines(rows: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()


# --- diagram ----------------------------------------------------------------------------------------------------------


class _Chart:
    """The nodes and edges of one definition. Nodes are named by position, so that no name can break the syntax."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.nodes = {(step.type, step.service): f"s{number}" for number, step in enumerate(definition.steps, start=1)}
        self.commands = {item.command: f"c{number}" for number, item in enumerate(definition.compensations, start=1)}

    def lines(self) -> Iterator[str]:
        yield "flowchart TD"
        yield from self._steps()
        yield from self._forward_edges()
        yield from self._failures()
        yield from self._undo_edges()
        yield "    classDef failed fill:#fde2e1,stroke:#b3261e,color:#3b0a08"
        yield "    classDef undo fill:#e3ecfb,stroke:#2f5fb3,color:#0c2350"
        if self.commands:
            yield f"    class {','.join(self.commands.values())} undo"

    def _steps(self) -> Iterator[str]:
        services = dict.fromkeys(step.service for step in self.definition.steps)
        for number, service in enumerate(services, start=1):
            yield f'    subgraph v{number}["{service}"]'
            for step in self.definition.steps:
                if step.service == service:
                    events = "<br/>".join(self._events_of(step.type, service))
                    yield f'        {self.nodes[step.type, service]}["<b>{step.type}</b><br/>{events}"]'
            yield "    end"

    def _events_of(self, step_type: str, service: str) -> list[str]:
        found = [(_event_label(event, means), means) for event in self.definition.events for means in meanings(event)]
        return [
            f"{kind}: {means.becomes.value}"
            for kind, means in found
            if means.step and means.becomes and (means.step.type, means.step.service) == (step_type, service)
        ]

    def _forward_edges(self) -> Iterator[str]:
        """Yield the edges from step to step, in the order of the definition."""
        changing = [event.means for event in self.definition.events if event.means.becomes in FORWARD]
        order = list(dict.fromkeys((means.step.type, means.step.service) for means in changing if means.step))
        for one, other in pairwise(order):
            yield f"    {self.nodes[one]} --> {self.nodes[other]}"

    def _failures(self) -> Iterator[str]:
        failing = [
            (_event_label(event, means), means)
            for event in self.definition.events
            for means in (event.means, *([event.success_field.fails] if event.success_field else []))
            if means.fails
        ]
        undoing = [(kind, means.step) for kind, means in failing if means.fails is not Fails.UPLOAD]
        if self.commands:
            lane = self.definition.noun_of_entity.one
            yield f'    failed{{{{"the {lane} fails: by an event, with its saga, or by a person"}}}}'
            yield "    class failed failed"
        for kind, step in undoing:
            if step and self.commands:
                yield f'    {self.nodes[step.type, step.service]} -- "{kind}" --> failed'

    def _undo_edges(self) -> Iterator[str]:
        for item in self.definition.compensations:
            node = self.commands[item.command]
            yield f'    {node}(["<b>{item.command}</b><br/>to {item.service}, {item.topic}"])'
            yield f'    failed -. "{_required(item)}" .-> {node}'
            for earlier in item.after:
                yield f'    {self.commands[earlier]} -. "settled before" .-> {node}'
            answers = "<br/>".join((*_OTHER_ANSWERS[item.confirmation], *_answers(self.definition, item)))
            yield f'    {node} -. "{answers}" .-> {self.nodes[item.undoes.type, item.undoes.service]}'
