"""manage.py terminate_saga: close a saga without undoing."""

from sagas import actions
from sagas.actions import ActionRequest, ActionResult
from sagas.management.cli_base import Options
from sagas.management.decision_command import SagaDecisionCommand


class Command(SagaDecisionCommand):
    help = "Close a saga without undoing: commands already sent continue, all others are withdrawn permanently."

    def decide(self, saga_id: str, options: Options, request: ActionRequest) -> ActionResult:
        return actions.terminate(saga_id, request=request)
