"""manage.py requeue_message: read a quarantined message again, with today's rules."""

from sagas import decisions
from sagas.decisions import Outcome, Request
from sagas.management.messages_door import MessagesDoor


class Command(MessagesDoor):
    help = "Read quarantined messages again, with today's rules, and store them as events."

    def decide(self, message: int, request: Request) -> Outcome:
        return decisions.requeue_message(message, request=request)
