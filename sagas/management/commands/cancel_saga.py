"""manage.py cancel_saga: fail a running saga, so that all it did is undone."""

from django.core.management.base import CommandParser

from sagas import actions
from sagas.actions import ActionRequest, ActionResult
from sagas.management.cli_base import Options
from sagas.management.decision_command import SagaDecisionCommand
from sagas.management.targets import name_of
from sagas.nouns import shared


class Command(SagaDecisionCommand):
    help = "Mark a running saga, or with --image one part of it, as failed, and undo everything done so far."

    def add_targets(self, parser: CommandParser) -> None:
        super().add_targets(parser)
        parser.add_argument("--image", help=f"only this {shared().entity_noun}, by its id")

    def decide(self, saga_id: str, options: Options, request: ActionRequest) -> ActionResult:
        return actions.cancel(saga_id, name_of(options["image"], shared().entity_noun), request=request)
