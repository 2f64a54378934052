"""manage.py dismiss_message: hide a quarantined message from the attention queue."""

from sagas import decisions
from sagas.decisions import Outcome, Request
from sagas.management.messages_door import MessagesDoor


class Command(MessagesDoor):
    help = "Hide quarantined messages from the attention queue. Their bytes stay, and they can still be requeued."

    def decide(self, message: int, request: Request) -> Outcome:
        return decisions.dismiss_message(message, request=request)
