"""manage.py release_commands: send held commands although another saga uses what they undo."""

from sagas.management.command_decisions import CommandDecisionCommand
from sagas.models import Action


class Command(CommandDecisionCommand):
    help = "Send commands that are held because another saga uses what they undo. They are not held again."
    action = Action.RELEASE
    of_saga = "all held commands of this saga"
