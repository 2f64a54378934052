"""manage.py retry_command: send an exhausted command again, in a new round."""

from sagas.management.commands_door import CommandsDoor
from sagas.models import Action


class Command(CommandsDoor):
    help = "Send exhausted commands again, in a new round with a full retry policy."
    action = Action.RETRY
    of_saga = "all of this saga's that are exhausted"
