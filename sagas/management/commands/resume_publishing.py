"""manage.py resume_publishing: resume sending commands."""

from sagas.management.publishing_decisions import PublishingDecisionCommand


class Command(PublishingDecisionCommand):
    help = (
        "Resume sending commands: those that are due are sent immediately, deadlines start anew. A service paused by "
        "its circuit breaker gets ten commands first, and the others once it has confirmed these."
    )
    paused = False
