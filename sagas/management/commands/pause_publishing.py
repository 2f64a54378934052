"""manage.py pause_publishing: the emergency stop for commands."""

from sagas.management.publishing_decisions import PublishingDecisionCommand


class Command(PublishingDecisionCommand):
    help = "Pause publishing: commands are planned and visible, none leaves, deadlines rest."
    paused = True
