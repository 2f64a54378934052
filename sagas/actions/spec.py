"""What is declared of a decision, once: the admin, the API, manage.py and the audit are derived from it.

The decisions themselves are in `sagas.actions.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sagas.actions import four_eyes
from sagas.actions.action import ActionRequest, ActionResult
from sagas.errors import Refused
from sagas.models import SagaLog
from sagas.nouns import Nouns
from sagas.rights import OPERATE

Values = Mapping[str, Any]


class Target(StrEnum):
    """What a decision is about. Each entry point knows how its users name such a target."""

    SAGA = "saga"
    COMMANDS = "commands"  # one by its id, or many: by their ids, or all of a saga
    PARKED = "parked"  # all unmatched events of a key, or one event
    KEY = "key"  # all unmatched events of a key
    MESSAGE = "message"  # a quarantined message
    PUBLISHING = "publishing"  # sending commands to one service, or to all
    INCIDENT = "incident"


class FieldKind(StrEnum):
    """How the value of a field is read, checked and shown."""

    ID = "id"  # of a lane
    SAGA = "saga"
    SAGA_TYPE = "saga type"
    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    CHOICE = "choice"
    TIME = "time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One value that a decision takes besides its target and the reason.

    On the admin's page it is an input with `label` and `help`, or (`hidden`) comes from the link; with neither it is
    not on the page. In the API it is a field of the body with `api_help`. On the command line it is `option` with
    `option_help`; an empty option is none. `label` and the three helps may have placeholders of `sagas.nouns.Nouns`.
    """

    name: str
    kind: FieldKind
    required: bool = False
    choices: tuple[str, ...] = ()
    label: Any = ""
    help: Any = ""
    hidden: bool = False
    api_help: Any = None
    option: str = ""
    option_help: str = ""
    metavar: str | None = None
    # What an empty value means in a decision on many sagas, where it then need not be given.
    of_many_help: Any = ""
    # Each target has its own value: the command takes it as ID=VALUE, and one value for several only if told so.
    of_each: bool = False
    # It chooses commands itself, instead of their ids or their saga.
    selects: bool = False
    # Returns why the admin's form needs the value, given the others; empty if it does not.
    missing: Callable[[Values], Any] | None = None


class NothingToDo(str):
    """Why a decision would change nothing. It is not offered; a request for it is accepted and changes nothing."""

    __slots__ = ()


Refusal = str | None
Effect = Callable[["ActionSpec", Values, ActionRequest], ActionResult]


def _own_fields(spec: ActionSpec, _saga: SagaLog, values: Values) -> dict[str, Any]:
    """Return the values of the decision's own fields, except the lane, which the fact itself carries."""
    return {own.name: values.get(own.name) for own in spec.fields if own.name != "lane"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActionSpec:
    """One decision that a person can make.

    A view is what a decision is judged by: a saga, a lane, a command ... as it is stored now. `on` lists the kinds of
    view that the decision can be about. `allowed` returns why it is not possible, None if it is; it is the only place
    that knows, and reads no more than the view. `effect` carries the decision out in its own transaction: it takes the
    values by name, calls `check` with the view that it locked, and raises DecisionError.

    The texts from `label` to `sentence` may have placeholders of `sagas.nouns.Nouns`, so whoever shows one fills it.
    """

    # The name in the audit, in the API's answers and in the addresses of the admin; never changed.
    name: str
    target: Target
    on: tuple[type, ...]
    allowed: Callable[[Any], Refusal]
    effect: Effect
    # Carries it out on many sagas, by `ids`, each in a transaction of its own; None: it is taken on one at a time.
    of_many: Effect | None = None
    # What the page runs as the preview, if that is not a dry run of `effect`.
    preview: Effect | None = None
    # The type of the fact that `effect` appends to the saga's log, and what the fact holds besides reason and actor.
    fact: str | None = None
    content: Callable[[ActionSpec, SagaLog, Values], dict[str, Any]] = _own_fields
    fields: tuple[Field, ...] = ()
    # Values that the decision itself fixes; at an address that several decisions share, they tell which is meant.
    fixed: Values = field(default_factory=dict)
    # A flag among the fields; without it nothing is written, and no reason is needed.
    only_with: str = ""
    # Names the decision, so that the same one is made once: filled in by `effect`. Empty: each request is a new one.
    once: str = ""
    permission: str = OPERATE
    # With four-eyes on, a second person approves it, whatever the number of targets: `sagas.actions.four_eyes`.
    second_person: bool = False

    # What cannot be reversed has a red button on its page; `behind_more`: it is also the last to be offered.
    destructive: bool = False
    behind_more: bool = False
    # After it, a saga's outcome does not come from the services alone.
    by_hand: bool = False
    # The status that it gives to a command or a message.
    settles: str = ""
    # The kinds of `sagas.queries.waiting` whose sentence asks for it.
    asked_by: tuple[str, ...] = ()

    # The names of the button and of the audit's row, in lower case. `labels`: other names, by kind of view.
    label: Any
    labels: Mapping[type, Any] = field(default_factory=dict)
    # The page: its title, the button that confirms, what happens, and further notes.
    title: Any
    button: Any
    consequence: Any
    also: tuple[Any, ...] = ()
    reason_label: Any = ""
    reason_help: Any = ""
    # The line in a saga's timeline, with %(actor)s and %(reason)s.
    sentence: Any = ""
    # Why it is not possible, if it is because it was done: with %(actor)s and %(time)s.
    already: Any = ""

    # The API: the description of its address, if it is not the target's, and the last part of the address, if it is
    # not the name.
    description: str = ""
    path: str = ""
    # The command: its name, its help, and the help of --saga if it decides on commands.
    command: str
    command_help: str
    of_saga: str = "all commands of this saga to which it can apply"
    # Whether its effects may hold error texts of services.
    shows_payload: bool = False

    @property
    def slug(self) -> str:
        """Return the last part of the API's address."""
        return self.path or self.name.replace("_", "-")

    def refusal(self, view: Any) -> str:
        """Return why the decision is not possible, or would change nothing; empty if neither."""
        return self.allowed(view) or ""

    def check(self, view: Any) -> None:
        """Raise Refused if the decision is not possible; not if it would only change nothing."""
        why = self.allowed(view)
        if why and not isinstance(why, NothingToDo):
            raise Refused(why)

    def decide(self, values: Values, request: ActionRequest) -> ActionResult:
        """Carry out the decision, in its own transaction. Raises DecisionError."""
        four_eyes.check(request, second_person=self.second_person)
        asked = {own.name: values.get(own.name) for own in self.fields}
        return self._effect(values)(self, {**values, **self.fixed}, replace(request, asked=asked))

    def look(self, values: Values, request: ActionRequest) -> ActionResult:
        """Return the preview for a request with `dry_run`. Raises DecisionError."""
        return (self.preview or self._effect(values))(self, {**values, **self.fixed}, request)

    def _effect(self, values: Values) -> Effect:
        return self.of_many if self.of_many is not None and values.get("ids") is not None else self.effect

    def label_on(self, view: type | None, words: Nouns) -> str:
        """Return the label of its button for a kind of view, with the nouns of a saga type."""
        return words.fill(self.labels.get(view, self.label) if view else self.label)
