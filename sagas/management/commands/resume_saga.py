"""manage.py resume_saga: resume a saga that is blocked by an error."""

from sagas import actions
from sagas.actions import ActionRequest, ActionResult
from sagas.management.cli_base import Options
from sagas.management.decision_command import SagaDecisionCommand


class Command(SagaDecisionCommand):
    help = "Resume a saga that is blocked by an error, once the error is repaired: its events are applied again."

    def decide(self, saga_id: str, options: Options, request: ActionRequest) -> ActionResult:
        return actions.resume(saga_id, request=request)
