"""manage.py pause_publishing: pause sending commands (emergency stop)."""

from sagas.management.publishing_decisions import PublishingDecisionCommand


class Command(PublishingDecisionCommand):
    help = "Pause sending commands: they are planned and visible but not sent, and deadlines are on hold."
    paused = True
