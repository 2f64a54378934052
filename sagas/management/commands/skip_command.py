"""manage.py skip_command: give a command up."""

from sagas.management.commands_door import CommandsDoor
from sagas.models import Action


class Command(CommandsDoor):
    help = "Give commands up: they count as not undone, and nothing is sent for them any more."
    action = Action.SKIP
    of_saga = "all of this saga's that are not answered"
