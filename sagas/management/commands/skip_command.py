"""manage.py skip_command: give a command up."""

from sagas.management.command_decisions import CommandDecisionCommand
from sagas.models import Action


class Command(CommandDecisionCommand):
    help = "Give commands up: they count as not undone, and nothing is sent for them any more."
    action = Action.SKIP
    of_saga = "all of this saga's that are not answered"
