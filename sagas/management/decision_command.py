"""What the commands that decide have in common: who, why, a look before, consent, an answer for each id."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.core.management.base import CommandParser

from sagas.decisions import ActionRequest, ActionResult, CommandPreview, is_blank
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
from sagas.management.targets import find_saga, ids_from, is_terminal
from sagas.management.wording import outcome_lines
from sagas.models import EntryPoint as Way

# Of more than this many jobs the question says only how many there are.
SHOWN_BEFORE = 20

JSON_SHAPE = (
    "one line of JSON for each id: {id, exit_code, error, decision_id, action, target, actor, accepted_at, "
    "commands: [{id, name, entity, service, topic, status_before, status_after, body, leaves, "
    "released}], effects, repeated, dry_run}; where error is not null only id, exit_code and error"
)


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of one id."""

    id: str
    code: int
    outcome: ActionResult | None = None
    error: str | None = None

    def as_data(self, *, payload: bool) -> dict[str, Any]:
        """One line of JSON_SHAPE."""
        told = self.outcome.as_json(payload=payload) if self.outcome is not None else {}
        return {"id": self.id, "exit_code": self.code, "error": self.error, **told}


@dataclass(frozen=True, slots=True)
class Job:
    """One call of a decision. `ids` names what it decides on; where these are many, `split` shares out the outcome."""

    ids: Sequence[str]
    run: Callable[[ActionRequest], ActionResult]
    split: Callable[[ActionResult], Sequence[JobResult]] | None = None


class DecisionCommand(OperatorCommand):
    """A command that takes a decision. Subclasses say on what (`add_targets`) and by which calls (`jobs`)."""

    def add_targets(self, parser: CommandParser) -> None:
        """Adds the arguments that say what is decided on."""
        raise NotImplementedError

    def jobs(self, options: Options) -> list[Job]:
        """The decisions that these arguments ask for."""
        raise NotImplementedError

    def is_decision(self, options: Options) -> bool:
        """Whether something is decided at all, or only looked at."""
        return True

    def code_of(self, outcome: ActionResult) -> int:
        """The exit code of a decision that was not refused."""
        return DONE

    def add_arguments(self, parser: CommandParser) -> None:
        """Adds the targets and what every decision takes."""
        self.add_targets(parser)
        parser.add_argument("--reason", default="", help="why; required, and kept with the decision")
        parser.add_argument("--dry-run", action="store_true", help="show what would happen, commands and their bodies")
        parser.add_argument("--yes", action="store_true", help="do not ask; needed where there is no terminal")
        parser.add_argument("--json", action="store_true", help=JSON_SHAPE)
        parser.add_argument("--actor", default="", help="who decides (default: cli: and the login on this machine)")
        parser.add_argument(
            "--request-key",
            metavar="KEY",
            help="a repeat with the same key answers what the first did; with many ids each has KEY:id",
        )

    def act(self, options: Options) -> int:
        """Asks, decides, answers; returns the greatest code."""
        decides = self.is_decision(options) and not options["dry_run"]
        if decides and is_blank(options["reason"]):
            raise UsageError("say why: --reason is required (or look first, with --dry-run)")
        if decides and not options["yes"] and not is_terminal():
            raise UsageError("there is no terminal to ask on: say --yes, or look first with --dry-run")
        jobs = self.jobs(options)
        if decides and not options["yes"]:
            refused = self._refused_by_person(jobs, options)
            if refused is not None:
                return refused
        return self._show(self._carry_out(jobs, options, dry_run=not decides), options, decides=decides)

    def _carry_out(self, jobs: Sequence[Job], options: Options, *, dry_run: bool) -> Iterator[JobResult]:
        asked = ActionRequest(
            actor=options["actor"] or login(),
            door=Way.COMMAND,
            reason=options["reason"],
            dry_run=dry_run,
            idempotency_key=options["request_key"],
        )
        for job in jobs:
            own = asked
            if asked.idempotency_key and len(jobs) > 1:
                own = replace(asked, idempotency_key=f"{asked.idempotency_key}:{job.ids[0]}")
            yield from self._answers(job, own)

    def _answers(self, job: Job, request: ActionRequest) -> Sequence[JobResult]:
        try:
            outcome = job.run(request)
        except DecisionError as error:
            return [JobResult(identity, exit_code(error), error=sentence(error)) for identity in job.ids]
        if job.split is not None:
            return job.split(outcome)
        return [JobResult(job.ids[0], self.code_of(outcome), outcome)]

    def _show(self, answers: Iterator[JobResult], options: Options, *, decides: bool) -> int:
        """Report each answer as soon as there is one; return the greatest code.

        Where stdout fails, decisions go on and their code holds; a preview ends.
        """
        worst = DONE
        for answer in answers:
            worst = max(worst, answer.code)
            try:
                self._tell_answer(answer, options)
            except LostAnswer as lost:
                self.lose_answer(lost)
                if not decides:
                    return worst if lost.reader_left else max(worst, FAILED)
            if answer.error is not None:
                self.complain(f"{answer.id}: {answer.error}")
        return worst

    def _tell_answer(self, answer: JobResult, options: Options) -> None:
        payload = _shows_payload(options)
        if options["json"]:
            self.tell_data(answer.as_data(payload=payload))
        elif answer.outcome is not None and answer.error is None:
            for line in outcome_lines(answer.id, answer.outcome, payload=payload):
                self.tell(line)
        self.flush()

    def _refused_by_person(self, jobs: Sequence[Job], options: Options) -> int | None:
        """Shows what would happen and asks; returns an exit code unless the answer is yes."""
        ids = [identity for job in jobs for identity in job.ids]
        if len(jobs) <= SHOWN_BEFORE:
            worst = DONE
            for answer in self._carry_out(jobs, options, dry_run=True):
                # A code without an error, such as a difference that replay found, is what the decision is about.
                worst = max(worst, answer.code if answer.error else DONE)
                for line in _preview_lines(answer, options):
                    self.say(line)
            if worst != DONE and len(ids) == 1:
                return worst
        if self._consents(ids):
            return None
        self.say("Nothing was done.")
        return FAILED

    def _consents(self, ids: Sequence[str]) -> bool:
        """Ask the person at the terminal. A question that could not be written has no answer."""
        question = f"Do this to {ids[0] if len(ids) == 1 else len(ids)}? [y/N] "
        try:
            self.stderr.write(one_line(question), style_func=str, ending="")
            self.stderr.flush()
        except OSError:
            discard(self.stderr)
            return False
        return sys.stdin.readline().strip().lower() in ("y", "yes")


class SagaDecisionCommand(DecisionCommand):
    """A decision on sagas, each by itself."""

    def decide(self, saga_id: str, options: Options, request: ActionRequest) -> ActionResult:
        """The decision on one saga."""
        raise NotImplementedError

    def add_targets(self, parser: CommandParser) -> None:
        """Adds the sagas' ids."""
        parser.add_argument("saga", nargs="*", help="saga id or task id; none, or -: one a line from stdin")

    def jobs(self, options: Options) -> list[Job]:
        """One call for each saga."""
        return [self._job(name, options) for name in ids_from(options["saga"], "saga")]

    def _job(self, name: str, options: Options) -> Job:
        return Job([name], lambda request: self.decide(str(find_saga(name).id), options, request))


def _shows_payload(options: Options) -> bool:
    """Whether error texts of services are to be shown; most decisions have none to show, and no such option."""
    return bool(options.get("payload"))


def _preview_lines(answer: JobResult, options: Options) -> Iterable[str]:
    if answer.outcome is None:
        return [f"{answer.id}: {answer.error}"]
    return outcome_lines(answer.id, answer.outcome, payload=_shows_payload(options))


def unknown(name: str, what: str) -> Job:
    """What answers for an id that nothing can have."""

    def run(request: ActionRequest) -> ActionResult:
        raise NotFound(f"there is no {what} {name}")

    return Job([name], run)


def login() -> str:
    """Who sits at this machine, as the audit names them."""
    uid = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"cli:{uid}"


def shared_out(ids: Sequence[str], outcome: ActionResult) -> list[JobResult]:
    """The outcome of a bulk decision on commands, an answer for each id.

    What moved with a command (one that may leave now, because this one is answered) is told with it.
    """
    refused = {item["id"]: item for item in outcome.effects.get("not_eligible", [])}
    moved: dict[str, list[CommandPreview]] = {identity: [] for identity in ids}
    lane_of = {command.entity: str(command.id) for command in outcome.commands if str(command.id) in moved}
    for command in outcome.commands:
        told_with = str(command.id) if str(command.id) in moved else lane_of.get(command.entity, ids[0])
        moved[told_with].append(command)
    answers = []
    for identity in ids:
        no = refused.get(identity)
        if no is not None:
            code = NOT_FOUND if no["code"] == "not_found" else REFUSED
            answers.append(JobResult(identity, code, error=sentence(ValueError(no["reason"]))))
        else:
            own = replace(outcome, commands=moved[identity], effects={}, target=f"command {identity}")
            answers.append(JobResult(identity, DONE, own))
    return answers
