"""manage.py cancel_saga: fail a saga that still runs, so that all it did is undone."""

from django.core.management.base import CommandParser

from sagas import decisions
from sagas.decisions import ActionRequest, ActionResult
from sagas.management.cli_base import Options
from sagas.management.decision_command import SagaDecisionCommand
from sagas.management.targets import name_of


class Command(SagaDecisionCommand):
    help = "Cancel a saga that still runs, or with --image one lane of it: all that is owed then is undone."

    def add_targets(self, parser: CommandParser) -> None:
        super().add_targets(parser)
        parser.add_argument("--image", help="only this lane")

    def decide(self, saga_id: str, options: Options, request: ActionRequest) -> ActionResult:
        return decisions.cancel(saga_id, name_of(options["image"], "an image"), request=request)
