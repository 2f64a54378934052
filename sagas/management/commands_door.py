"""The doors to decisions on commands: one or many by id, or of a saga."""

from __future__ import annotations

from collections.abc import Callable

from django.core.management.base import CommandParser

from sagas import decisions
from sagas.decisions import CommandSelection, Outcome, Request
from sagas.management.decision import DecisionDoor, Job, shared_out
from sagas.management.door import Options, UsageError
from sagas.management.targets import find_saga, ids_from
from sagas.models import Action


class CommandsDoor(DecisionDoor):
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
            return [self.selected(options["saga"], CommandSelection(saga=find_saga(options["saga"]).id))]
        ids = ids_from(options["command"], "command")
        if len(ids) == 1:
            return [Job(ids, self._decide_one(ids[0]))]
        return [Job(ids, self._decide(CommandSelection(ids=ids)), lambda outcome: shared_out(ids, outcome))]

    def selected(self, name: str, selection: CommandSelection) -> Job:
        """One call in bulk for commands that the decision itself finds; answered in one piece."""
        return Job([name], self._decide(selection))

    def _decide_one(self, command_id: str) -> Callable[[Request], Outcome]:
        return lambda request: decisions.decide_command(self.action, command_id, request=request)

    def _decide(self, selection: CommandSelection) -> Callable[[Request], Outcome]:
        def run(request: Request) -> Outcome:
            return decisions.decide_commands(self.action, selection, request=request)

        return run
