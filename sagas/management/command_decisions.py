"""The doors to decisions on commands: one or many by id, or of a saga."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.core.management.base import CommandParser

from sagas import decisions
from sagas.decisions import ActionRequest, ActionResult, CommandSelection
from sagas.management.cli_base import Options, UsageError
from sagas.management.decision_command import DecisionCommand, Job, shared_out, unknown
from sagas.management.targets import find_saga, ids_from
from sagas.models import Action


class CommandDecisionCommand(DecisionCommand):
    """One decision on commands. Many ids are decided in bulk, a transaction a saga."""

    action: Action
    of_saga = "all of this saga's that it can be meant for"

    def add_targets(self, parser: CommandParser) -> None:
        """Adds the commands' ids, or the saga that has them."""
        parser.add_argument("command", nargs="*", help="command id; none, or -: one a line from stdin")
        parser.add_argument("--saga", help=f"{self.of_saga}, by saga id or task id")

    def jobs(self, options: Options) -> list[Job]:
        """One call for a single command, one in bulk for many or for a saga's."""
        if options["saga"] is not None:
            if options["command"]:
                raise UsageError("name either commands or --saga")
            name = options["saga"]
            return [self.selected(name, lambda: CommandSelection(saga=find_saga(name).id))]
        words = ids_from(options["command"], "command")
        known = {word: _canonical(word) for word in words}
        ids = list(dict.fromkeys(identity for identity in known.values() if identity is not None))
        strange = [unknown(word, "command") for word, identity in known.items() if identity is None]
        if len(ids) == 1:
            return [*strange, Job(ids, self._decide_one(ids[0]))]
        if not ids:
            return strange
        many = self._decide(lambda: CommandSelection(ids=ids))
        return [*strange, Job(ids, many, lambda outcome: shared_out(ids, outcome))]

    def selected(self, name: str, selection: Callable[[], CommandSelection]) -> Job:
        """One call in bulk for commands that the decision itself finds; answered in one piece."""
        return Job([name], self._decide(selection))

    def _decide_one(self, command_id: str) -> Callable[[ActionRequest], ActionResult]:
        return lambda request: decisions.decide_command(self.action, command_id, request=request)

    def _decide(self, selection: Callable[[], CommandSelection]) -> Callable[[ActionRequest], ActionResult]:
        def run(request: ActionRequest) -> ActionResult:
            return decisions.decide_commands(self.action, selection(), request=request)

        return run


def _canonical(word: str) -> str | None:
    """A command's id in its one spelling, so that the answer's ids are those of the rows; None where it is none."""
    try:
        return str(UUID(word))
    except ValueError:
        return None
