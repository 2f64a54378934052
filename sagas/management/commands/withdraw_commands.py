"""manage.py withdraw_commands: withdraw unconfirmed commands: one, many, or all planned before a time."""

from django.core.management.base import CommandParser

from sagas.actions import CommandSelection
from sagas.management.cli_base import Options, UsageError
from sagas.management.command_decisions import CommandDecisionCommand
from sagas.management.decision_command import Job
from sagas.management.targets import moment
from sagas.models import Action


class Command(CommandDecisionCommand):
    help = (
        "Withdraw commands by id, those of a saga, or with --before all unsent ones planned before a time: they count "
        "as not undone."
    )
    action = Action.WITHDRAW
    of_saga = "all unanswered commands of this saga"

    def add_targets(self, parser: CommandParser) -> None:
        super().add_targets(parser)
        parser.add_argument("--before", metavar="T", help="planned before this time (ISO 8601; UTC without an offset)")

    def jobs(self, options: Options) -> list[Job]:
        if options["before"] is None:
            return super().jobs(options)
        if options["command"] or options["saga"]:
            raise UsageError("give only one of commands, --saga and --before")
        before = moment(options["before"])
        return [self.selected(options["before"], lambda: CommandSelection(planned_before=before))]
