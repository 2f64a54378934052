"""manage.py resume_saga: let a saga go on that was set aside by an error."""

from sagas import decisions
from sagas.decisions import ActionRequest, ActionResult
from sagas.management.cli_base import Options
from sagas.management.decision_command import SagaDecisionCommand


class Command(SagaDecisionCommand):
    help = "Let a saga go on that was set aside by an error, once the error is mended: its events are applied again."

    def decide(self, saga_id: str, options: Options, request: ActionRequest) -> ActionResult:
        return decisions.resume(saga_id, request=request)
