"""manage.py resume_publishing: let commands leave again."""

from sagas.management.publishing_decisions import PublishingDecisionCommand


class Command(PublishingDecisionCommand):
    help = (
        "Resume publishing: commands that are due leave at once, deadlines start anew. A service that its circuit "
        "breaker paused gets ten commands first, and the others when it has confirmed these."
    )
    paused = False
