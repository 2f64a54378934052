"""The manage.py commands that decide, from the specs of the decisions. There are no files for them.

Django finds commands by the files in `management/commands`; `install` adds these to what it found.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any
from uuid import UUID

from django.core.management import get_commands
from django.core.management.base import CommandParser

from compensation.switches import EVERYTHING
from sagas import actions, incidents
from sagas.actions import ActionRequest, ActionResult, ActionSpec, Field, FieldKind, Target
from sagas.definitions import type_names
from sagas.management.cli_base import DONE, FAILED, Options, UsageError, add_payload_argument
from sagas.management.decision_command import Call, DecisionCommand, call_of_malformed_id, results_by_id
from sagas.management.targets import find_saga, ids_from, moment, name_of
from sagas.nouns import shared

COMMANDS = "sagas.management.commands"


def _number(text: str, field: Field) -> int:
    """Parse a number that is not negative. Raises UsageError."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"{text!r} is not a number, such as 36, for {field.option}")
    return int(text)


# What a field's value becomes; any other is taken as it was typed. A saga is looked up when the decision is made.
_PARSERS: Mapping[FieldKind, Callable[[str, Field], Any]] = {
    FieldKind.ID: lambda text, field: name_of(text, shared().entity_id),
    FieldKind.SAGA_TYPE: lambda text, field: type_names.stored(text),
    FieldKind.TIME: lambda text, field: moment(text),
    FieldKind.NUMBER: _number,
}


class SpecCommand(DecisionCommand):
    """The command of one decision. Subclasses define the target's arguments and the calls."""

    spec: ActionSpec

    def add_target(self, parser: CommandParser) -> None:
        """Add the arguments that name the target."""
        raise NotImplementedError

    def add_targets(self, parser: CommandParser) -> None:
        """Add the arguments of the target, and those of the decision's own fields."""
        self.add_target(parser)
        for field in self.spec.fields:
            if field.option:
                _add_option(parser, field)
        if self.spec.shows_payload:
            add_payload_argument(parser)

    def is_decision(self, options: Options) -> bool:
        """Return whether these options decide something, rather than only show it."""
        return not self.spec.only_with or bool(options[self.spec.only_with])

    def code_of(self, outcome: ActionResult) -> int:
        """Return FAILED for differences that were found and not stored."""
        return FAILED if outcome.dry_run and outcome.effects.get("differences") else DONE

    def own(self, options: Options) -> dict[str, Any]:
        """Return the values of the decision's own fields. Raises UsageError."""
        given = {field.name: (field, _given(options, field)) for field in self.spec.fields if field.option}
        return {
            name: value if value is None or field.kind not in _PARSERS else _PARSERS[field.kind](value, field)
            for name, (field, value) in given.items()
        }

    def call(self, name: str, options: Options, target: Callable[[], Mapping[str, Any]]) -> Call:
        """Return one call. target: returns the values that name the target; may raise NotFound."""
        own = self.own(options)
        return Call([name], lambda request: self._decide({**own, **target()}, request))

    def _decide(self, values: Mapping[str, Any], request: ActionRequest) -> ActionResult:
        sagas = [field.name for field in self.spec.fields if field.kind is FieldKind.SAGA and values.get(field.name)]
        return self.spec.decide({**values, **{name: find_saga(values[name]).id for name in sagas}}, request)


class OnSagas(SpecCommand):
    """A decision on sagas, each in its own call."""

    @property
    def _of_each(self) -> Field | None:
        """The field of which each saga has its own value, if the decision has one."""
        return next((field for field in self.spec.fields if field.of_each), None)

    def add_target(self, parser: CommandParser) -> None:
        field, what = self._of_each, f"saga id or {shared().key_id}"
        if field is not None:
            what += f", as ID={field.metavar}, with the number that {field.option} means"
            parser.add_argument("--for-all", action="store_true", help=f"use the one {field.option} for several sagas")
        parser.add_argument("saga", nargs="*", help=f"{what}; none or -: read from stdin, one per line")

    def calls(self, options: Options) -> list[Call]:
        """Return one call for each saga."""
        names, field = ids_from(options["saga"], "saga"), self._of_each
        if field is None:
            return [self._call(name, options) for name in names]
        values = _value_of_each(names, field, _given(options, field), for_all=options["for_all"])
        named = field.option.removeprefix("--").replace("-", "_")
        return [self._call(name, {**options, named: value}) for name, value in values.items()]

    def _call(self, name: str, options: Options) -> Call:
        return self.call(name, options, lambda: {"saga": find_saga(name).id})


def _value_of_each(names: Sequence[str], field: Field, shared_value: str | None, *, for_all: bool) -> dict[str, str]:
    """Return the value of each target: its own, as ID=VALUE, or the one that the option gives. Raises UsageError.

    One value for several targets is most likely meant for one of them, so it needs `for_all`. An id that itself
    contains "=" can be given with the option.
    """
    option, form = field.option, f"ID={field.metavar}"
    if shared_value is not None:
        if len(names) > 1 and not for_all:
            raise UsageError(f"{option} gives several sagas one number: give each its own, {form}, or add --for-all")
        return dict.fromkeys(names, shared_value)
    if for_all:
        raise UsageError(f"--for-all needs {option}")
    values: dict[str, str] = {}
    for given in names:
        name, mark, value = given.rpartition("=")
        if not (mark and name):
            raise UsageError(f"saga {given} has no number: give it as {form}, or with {option}")
        if values.setdefault(name, value) != value:
            raise UsageError(f"saga {name} has two numbers: give one")
    return values


class OnCommands(SpecCommand):
    """A decision on commands. Many ids are decided in bulk, in one transaction per saga."""

    def add_target(self, parser: CommandParser) -> None:
        parser.add_argument("command", nargs="*", help="command id; none or -: read from stdin, one per line")
        parser.add_argument("--saga", help=f"{self.spec.of_saga}, by saga id or {shared().key_id}")

    def calls(self, options: Options) -> list[Call]:
        """Return one call for a single command, or one bulk call for many or for those chosen by something else."""
        chosen = [field for field in self.spec.fields if field.selects and _given(options, field) is not None]
        if chosen:
            if options["command"] or options["saga"]:
                raise UsageError(f"give only one of commands, --saga and {chosen[0].option}")
            return [self.call(_given(options, chosen[0]), options, dict)]
        if options["saga"] is not None:
            if options["command"]:
                raise UsageError("give either commands or --saga")
            name = options["saga"]
            return [self.call(name, options, lambda: {"saga": find_saga(name).id})]
        return self._calls_by_id(options)

    def _calls_by_id(self, options: Options) -> list[Call]:
        given = ids_from(options["command"], "command")
        known = {text: _canonical(text) for text in given}
        ids = list(dict.fromkeys(identity for identity in known.values() if identity is not None))
        malformed = [call_of_malformed_id(text, "command") for text, identity in known.items() if identity is None]
        if not ids:
            return malformed
        if len(ids) == 1:
            return [*malformed, self.call(ids[0], options, lambda: {"command": ids[0]})]
        many = self.call(ids[0], options, lambda: {"ids": ids})
        return [*malformed, Call(ids, many.run, lambda outcome: results_by_id(ids, outcome))]


class OnParked(SpecCommand):
    """A decision on the unmatched events of a key, or on one of them."""

    def add_target(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--key", help=f"the {shared().key_id} that the events name")
        what.add_argument("--event", help="the id of one unmatched event")

    def calls(self, options: Options) -> list[Call]:
        """Return the one call."""
        key, event = name_of(options["key"], shared().key_id), name_of(options["event"], "event id")
        return [self.call(key or event or "", options, lambda: {"key": key, "event": event})]


class OnKeys(SpecCommand):
    """A decision on the unmatched events of keys, each in its own call."""

    def add_target(self, parser: CommandParser) -> None:
        parser.add_argument(
            "key", nargs="*", help=f"{shared().key_id} of unmatched events; none or -: from stdin, one per line"
        )

    def calls(self, options: Options) -> list[Call]:
        """Return one call for each key."""
        return [self._call(key, options) for key in ids_from(options["key"], shared().key_id)]

    def _call(self, key: str, options: Options) -> Call:
        own = name_of(key, shared().key_id) or ""
        return self.call(key, options, lambda: {"key": own})


class OnMessages(SpecCommand):
    """A decision on quarantined messages, each in its own call."""

    def add_target(self, parser: CommandParser) -> None:
        parser.add_argument("message", nargs="*", help="number in quarantine; none or -: read from stdin, one per line")

    def calls(self, options: Options) -> list[Call]:
        """Return one call for each message."""
        return [self._call(name, options) for name in ids_from(options["message"], "message")]

    def _call(self, name: str, options: Options) -> Call:
        if not (name.isascii() and name.isdigit() and int(name) < 2**63):
            raise UsageError(f"{name} is not the number of a quarantined message")
        return self.call(name, options, lambda: {"message": int(name)})


class OnIncidents(SpecCommand):
    """A decision on incidents, each in its own call."""

    def add_target(self, parser: CommandParser) -> None:
        parser.add_argument("incident", nargs="*", help="incident id; none or -: read from stdin, one per line")

    def calls(self, options: Options) -> list[Call]:
        """Return one call for each incident."""
        return [self._call(name, options) for name in ids_from(options["incident"], "incident")]

    def _call(self, name: str, options: Options) -> Call:
        identity = _canonical(name)
        if identity is None:
            return call_of_malformed_id(name, "incident")
        return self.call(identity, options, lambda: {"incident": incidents.recorded(UUID(identity))})


class OnPublishing(SpecCommand):
    """A decision on sending commands. A repeated request changes nothing and reports that (effects.changed)."""

    def add_target(self, parser: CommandParser) -> None:
        parser.add_argument("--service", help="only this service's commands, such as DATA_RETRIEVAL")

    def calls(self, options: Options) -> list[Call]:
        """Return the one call."""
        name = options["service"]
        return [self.call(EVERYTHING if name is None else name, options, lambda: {"service": name})]


_COMMANDS: Mapping[Target, type[SpecCommand]] = {
    Target.SAGA: OnSagas,
    Target.COMMANDS: OnCommands,
    Target.PARKED: OnParked,
    Target.KEY: OnKeys,
    Target.MESSAGE: OnMessages,
    Target.PUBLISHING: OnPublishing,
    Target.INCIDENT: OnIncidents,
}


def command_of(spec: ActionSpec) -> type[SpecCommand]:
    """Return the command of a decision."""
    own = {"spec": spec, "help": spec.command_help, "__doc__": spec.command_help}
    return type("Command", (_COMMANDS[spec.target],), own)


def install() -> None:
    """Add the commands of all decisions to those that Django found. May run twice.

    Django looks for files in each app's `management/commands`, keeps what it found in one dictionary, and imports the
    module of the command that is called. Each decision gets an entry there, and a module that is not a file.
    """
    found = get_commands()
    for spec in actions.ACTIONS.values():
        module = ModuleType(f"{COMMANDS}.{spec.command}", spec.command_help)
        module.__dict__["Command"] = command_of(spec)
        sys.modules[module.__name__] = module
        found[spec.command] = "sagas"


def _add_option(parser: CommandParser, field: Field) -> None:
    text = shared().fill(field.option_help)
    if field.kind is FieldKind.FLAG:
        parser.add_argument(field.option, action="store_true", help=text)
        return
    options: dict[str, Any] = {"required": field.required and not field.of_each, "help": text}
    if field.metavar:
        options["metavar"] = field.metavar
    if field.kind is FieldKind.CHOICE:
        options["choices"] = field.choices
    parser.add_argument(field.option, **options)


def _given(options: Options, field: Field) -> Any:
    """Return what was given for a field, by the name that argparse derives from its option."""
    return options[field.option.removeprefix("--").replace("-", "_")]


def _canonical(text: str) -> str | None:
    """Return an id in canonical form, so that the answer's ids are those of the rows; None if malformed."""
    try:
        return str(UUID(text))
    except ValueError:
        return None
