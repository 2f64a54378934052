"""manage.py requeue_message: read a quarantined message again with the current rules."""

from sagas import actions
from sagas.actions import ActionRequest, ActionResult
from sagas.management.message_decisions import MessageDecisionCommand


class Command(MessageDecisionCommand):
    help = "Read quarantined messages again with the current rules and store them as events."

    def decide(self, message: int, request: ActionRequest) -> ActionResult:
        return actions.requeue_message(message, request=request)
