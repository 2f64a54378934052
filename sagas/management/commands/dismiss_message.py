"""manage.py dismiss_message: hide a quarantined message from the attention list."""

from sagas import actions
from sagas.actions import ActionRequest, ActionResult
from sagas.management.message_decisions import MessageDecisionCommand


class Command(MessageDecisionCommand):
    help = "Hide quarantined messages from the attention list. Their bytes stay, and they can still be requeued."

    def decide(self, message: int, request: ActionRequest) -> ActionResult:
        return actions.dismiss_message(message, request=request)
