"""manage.py resume_publishing: let commands leave again."""

from sagas.management.publishing_door import PublishingDoor


class Command(PublishingDoor):
    help = "Resume publishing: commands that are due leave at once, deadlines start anew."
    paused = False
