"""manage.py release_commands: let held commands be sent, though another task has the image too."""

from sagas.management.command_decisions import CommandDecisionCommand
from sagas.models import Action


class Command(CommandDecisionCommand):
    help = "Release commands that are held because another task has the image too: they are sent, and not held again."
    action = Action.RELEASE
    of_saga = "all of this saga's that are held"
