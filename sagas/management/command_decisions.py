"""Base of the manage.py commands that decide on commands: one or many by id, or those of a saga."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.core.management.base import CommandParser

from sagas import actions
from sagas.actions import ActionRequest, ActionResult, CommandSelection
from sagas.management.cli_base import Options, UsageError
from sagas.management.decision_command import DecisionCommand, Job, job_of_malformed_id, results_by_id
from sagas.management.targets import find_saga, ids_from
from sagas.models import Action
from sagas.nouns import shared


class CommandDecisionCommand(DecisionCommand):
    """One decision on commands. Many ids are decided in bulk, in one transaction per saga."""

    action: Action
    of_saga = "all commands of this saga to which it can apply"

    def add_targets(self, parser: CommandParser) -> None:
        """Add the commands' ids, or the saga that has them."""
        parser.add_argument("command", nargs="*", help="command id; none or -: read from stdin, one per line")
        parser.add_argument("--saga", help=f"{self.of_saga}, by saga id or {shared().key_id}")

    def jobs(self, options: Options) -> list[Job]:
        """Return one call for a single command, or one bulk call for many or for those of a saga."""
        if options["saga"] is not None:
            if options["command"]:
                raise UsageError("give either commands or --saga")
            name = options["saga"]
            return [self.selected(name, lambda: CommandSelection(saga=find_saga(name).id))]
        given = ids_from(options["command"], "command")
        known = {text: _canonical(text) for text in given}
        ids = list(dict.fromkeys(identity for identity in known.values() if identity is not None))
        malformed = [job_of_malformed_id(text, "command") for text, identity in known.items() if identity is None]
        if len(ids) == 1:
            return [*malformed, Job(ids, self._decide_one(ids[0]))]
        if not ids:
            return malformed
        many = self._decide(lambda: CommandSelection(ids=ids))
        return [*malformed, Job(ids, many, lambda outcome: results_by_id(ids, outcome))]

    def selected(self, name: str, selection: Callable[[], CommandSelection]) -> Job:
        """Return one bulk call for commands that the decision itself selects; it has one result."""
        return Job([name], self._decide(selection))

    def _decide_one(self, command_id: str) -> Callable[[ActionRequest], ActionResult]:
        return lambda request: actions.decide_command(self.action, command_id, request=request)

    def _decide(self, selection: Callable[[], CommandSelection]) -> Callable[[ActionRequest], ActionResult]:
        def run(request: ActionRequest) -> ActionResult:
            return actions.decide_commands(self.action, selection(), request=request)

        return run


def _canonical(text: str) -> str | None:
    """Return a command's id in canonical form, so that the answer's ids are those of the rows; None if malformed."""
    try:
        return str(UUID(text))
    except ValueError:
        return None
