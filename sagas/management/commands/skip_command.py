"""manage.py skip_command: skip a command."""

from sagas.management.command_decisions import CommandDecisionCommand
from sagas.models import Action


class Command(CommandDecisionCommand):
    help = "Skip commands: they count as not undone and are not sent any more."
    action = Action.SKIP
    of_saga = "all unanswered commands of this saga"
