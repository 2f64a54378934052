"""manage.py mark_done: mark a command as done, verified by a person."""

from sagas.management.command_decisions import CommandDecisionCommand
from sagas.models import Action


class Command(CommandDecisionCommand):
    help = "Mark commands as done after you have verified it: they count as confirmed, marked as manual."
    action = Action.MARK_DONE
    of_saga = "all unanswered commands of this saga"
