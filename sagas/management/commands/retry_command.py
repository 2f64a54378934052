"""manage.py retry_command: send an exhausted command again, in a new round."""

from sagas.management.command_decisions import CommandDecisionCommand
from sagas.models import Action


class Command(CommandDecisionCommand):
    help = "Send exhausted commands again, in a new round with a fresh set of attempts."
    action = Action.RETRY
    of_saga = "all exhausted commands of this saga"
