"""manage.py withdraw_commands: take back commands that were not confirmed, one, many, or all before a cut-over."""

from django.core.management.base import CommandParser

from sagas.decisions import CommandSelection
from sagas.management.cli_base import Options, UsageError
from sagas.management.command_decisions import CommandDecisionCommand
from sagas.management.decision_command import Job
from sagas.management.targets import moment
from sagas.models import Action


class Command(CommandDecisionCommand):
    help = (
        "Withdraw commands by id, of a saga, or with --before all that were planned before a time and wait to be sent: "
        "they count as not undone."
    )
    action = Action.WITHDRAW
    of_saga = "all of this saga's that are not answered"

    def add_targets(self, parser: CommandParser) -> None:
        super().add_targets(parser)
        parser.add_argument("--before", metavar="T", help="planned before this time (ISO 8601; UTC if it says nothing)")

    def jobs(self, options: Options) -> list[Job]:
        if options["before"] is None:
            return super().jobs(options)
        if options["command"] or options["saga"]:
            raise UsageError("name either commands, or --saga, or --before")
        cut_over = moment(options["before"])
        return [self.selected(options["before"], lambda: CommandSelection(planned_before=cut_over))]
