"""manage.py release_commands: let held commands be sent, though another task has the image too."""

from sagas.management.commands_door import CommandsDoor
from sagas.models import Action


class Command(CommandsDoor):
    help = "Release commands that are held because another task has the image too: they are sent, and not held again."
    action = Action.RELEASE
    of_saga = "all of this saga's that are held"
