"""manage.py mark_done: say that a command was done by hand."""

from sagas.management.command_decisions import CommandDecisionCommand
from sagas.models import Action


class Command(CommandDecisionCommand):
    help = "Say that commands were done by hand: they count as confirmed, marked as by hand."
    action = Action.MARK_DONE
    of_saga = "all of this saga's that are not answered"
