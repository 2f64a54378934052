"""What the commands that decide share: actor, reason, preview, confirmation, a result for each id."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.core.management.base import CommandParser

from sagas import targets
from sagas.actions import ActionRequest, ActionResult, CommandPreview, is_blank
from sagas.errors import DecisionError, NotFound
from sagas.management.cli_base import (
    DONE,
    FAILED,
    NOT_FOUND,
    REFUSED,
    OperatorCommand,
    Options,
    UsageError,
    exit_code,
    sentence,
)
from sagas.management.output import LostAnswer, discard, one_line
from sagas.management.targets import is_terminal
from sagas.management.wording import outcome_lines
from sagas.models import EntryPoint

# With more calls than this, the question states only their number and no preview is shown.
SHOWN_BEFORE = 20

JSON_SHAPE = (
    "one line of JSON for each id: {id, exit_code, error, decision_id, action, target, actor, accepted_at, "
    "commands: [{id, name, entity, service, topic, status_before, status_after, body, leaves, "
    "released}], effects, repeated, dry_run}; where error is not null only id, exit_code and error"
)


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of a decision for one id."""

    id: str
    code: int
    outcome: ActionResult | None = None
    error: str | None = None

    def as_data(self, *, payload: bool) -> dict[str, Any]:
        """Return one line of JSON_SHAPE."""
        answer = self.outcome.as_json(payload=payload) if self.outcome is not None else {}
        return {"id": self.id, "exit_code": self.code, "error": self.error, **answer}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a decision. `ids` are its targets; with several, `split` divides the outcome among them."""

    ids: Sequence[str]
    run: Callable[[ActionRequest], ActionResult]
    split: Callable[[ActionResult], Sequence[CallResult]] | None = None


class DecisionCommand(OperatorCommand):
    """A command that takes a decision. Subclasses define its targets (`add_targets`) and the calls (`calls`)."""

    def add_targets(self, parser: CommandParser) -> None:
        """Add the arguments that name the targets."""
        raise NotImplementedError

    def calls(self, options: Options) -> list[Call]:
        """Return the calls for these arguments."""
        raise NotImplementedError

    def is_decision(self, options: Options) -> bool:
        """Return whether these options decide something, rather than only show it."""
        raise NotImplementedError

    def code_of(self, outcome: ActionResult) -> int:
        """Return the exit code of a decision that was not refused."""
        raise NotImplementedError

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the targets and the options that every decision has."""
        self.add_targets(parser)
        parser.add_argument("--reason", default="", help="required; stored with the decision")
        parser.add_argument("--dry-run", action="store_true", help="preview: show commands and bodies, change nothing")
        parser.add_argument("--yes", action="store_true", help="do not ask; required without a terminal")
        parser.add_argument("--json", action="store_true", help=JSON_SHAPE)
        parser.add_argument("--actor", default="", help="who decides (default: cli:LOGIN on this machine)")
        parser.add_argument(
            "--request-key",
            metavar="KEY",
            help="a request repeated with the same key returns the first result; with many ids each uses KEY:id",
        )

    def act(self, options: Options) -> int:
        """Ask, decide and report; return the highest exit code."""
        decides = self.is_decision(options) and not options["dry_run"]
        if decides and is_blank(options["reason"]):
            raise UsageError("--reason is required (for a preview use --dry-run)")
        if decides and not options["yes"] and not is_terminal():
            raise UsageError("no terminal for the question: use --yes (for a preview use --dry-run)")
        calls = self.calls(options)
        if decides and not options["yes"]:
            declined = self._declined(calls, options)
            if declined is not None:
                return declined
        return self._report(self._carry_out(calls, options, dry_run=not decides), options, decides=decides)

    def _carry_out(self, calls: Sequence[Call], options: Options, *, dry_run: bool) -> Iterator[CallResult]:
        shared = ActionRequest(
            actor=options["actor"] or login(),
            door=EntryPoint.COMMAND,
            reason=options["reason"],
            dry_run=dry_run,
            idempotency_key=options["request_key"],
        )
        for call in calls:
            own = shared
            if shared.idempotency_key and len(calls) > 1:
                own = replace(shared, idempotency_key=f"{shared.idempotency_key}:{call.ids[0]}")
            yield from self._results(call, own)

    def _results(self, call: Call, request: ActionRequest) -> Sequence[CallResult]:
        try:
            outcome = call.run(request)
        except DecisionError as error:
            return [CallResult(identity, exit_code(error), error=sentence(error)) for identity in call.ids]
        if call.split is not None:
            return call.split(outcome)
        return [CallResult(call.ids[0], self.code_of(outcome), outcome)]

    def _report(self, results: Iterator[CallResult], options: Options, *, decides: bool) -> int:
        """Report each result as soon as it is there; return the highest exit code.

        If stdout fails, decisions continue and their exit code stays; a preview ends.
        """
        worst = DONE
        for result in results:
            worst = max(worst, result.code)
            try:
                self._write_result(result, options)
            except LostAnswer as lost:
                self.lose_answer(lost)
                if not decides:
                    return worst if lost.reader_left else max(worst, FAILED)
            if result.error is not None:
                self.complain(f"{result.id}: {result.error}")
        return worst

    def _write_result(self, result: CallResult, options: Options) -> None:
        payload = _shows_payload(options)
        if options["json"]:
            self.tell_data(result.as_data(payload=payload))
        elif result.outcome is not None and result.error is None:
            for line in outcome_lines(result.id, result.outcome, payload=payload):
                self.tell(line)
        self.flush()

    def _declined(self, calls: Sequence[Call], options: Options) -> int | None:
        """Show the preview and ask; return an exit code unless the answer is yes."""
        ids = [identity for call in calls for identity in call.ids]
        if len(calls) <= SHOWN_BEFORE:
            worst = DONE
            for result in self._carry_out(calls, options, dry_run=True):
                # A code without an error, such as a difference that replay found, is the reason for the decision.
                worst = max(worst, result.code if result.error else DONE)
                for line in _preview_lines(result, options):
                    self.say(line)
            if worst != DONE and len(ids) == 1:
                return worst
        if self._consents(ids):
            return None
        self.say("Nothing was changed.")
        return FAILED

    def _consents(self, ids: Sequence[str]) -> bool:
        """Ask the person at the terminal. A question that cannot be written counts as declined."""
        question = f"Do this to {ids[0] if len(ids) == 1 else len(ids)}? [y/N] "
        try:
            self.stderr.write(one_line(question), style_func=str, ending="")
            self.stderr.flush()
        except OSError:
            discard(self.stderr)
            return False
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def _shows_payload(options: Options) -> bool:
    """Return whether to show error texts of services; most decisions have none, and no such option."""
    return bool(options.get("payload"))


def _preview_lines(result: CallResult, options: Options) -> Iterable[str]:
    if result.outcome is None:
        return [f"{result.id}: {result.error}"]
    return outcome_lines(result.id, result.outcome, payload=_shows_payload(options))


def call_of_malformed_id(name: str, what: str) -> Call:
    """Return the call for a malformed id, which raises NotFound."""

    def run(request: ActionRequest) -> ActionResult:
        raise NotFound(f"there is no {what} {name}")

    return Call([name], run)


def login() -> str:
    """Return the login on this machine, as the audit records it."""
    uid = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"cli:{uid}"


def results_by_id(ids: Sequence[str], outcome: ActionResult) -> list[CallResult]:
    """Divide the outcome of a bulk decision on commands into a result for each id.

    A command that changed along with another one (released because that one is answered) is reported with it.
    """
    refused = {item["id"]: item for item in outcome.effects.get("not_eligible", [])}
    moved: dict[str, list[CommandPreview]] = {identity: [] for identity in ids}
    lane_of = {command.entity: str(command.id) for command in outcome.commands if str(command.id) in moved}
    for command in outcome.commands:
        reported_with = str(command.id) if str(command.id) in moved else lane_of.get(command.entity, ids[0])
        moved[reported_with].append(command)
    results = []
    for identity in ids:
        refusal = refused.get(identity)
        if refusal is not None:
            code = NOT_FOUND if refusal["code"] == "not_found" else REFUSED
            results.append(CallResult(identity, code, error=sentence(ValueError(refusal["reason"]))))
        else:
            own = replace(outcome, commands=moved[identity], effects={}, target=targets.of_command(identity))
            results.append(CallResult(identity, DONE, own))
    return results
