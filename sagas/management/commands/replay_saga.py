"""manage.py replay_saga: rebuild a saga from its log and show the differences; --apply stores the result."""

from django.core.management.base import CommandParser

from sagas import actions
from sagas.actions import ActionRequest, ActionResult
from sagas.management.cli_base import DONE, FAILED, Options, add_payload_argument
from sagas.management.decision_command import SagaDecisionCommand


class Command(SagaDecisionCommand):
    help = (
        "Rebuild a saga from its log and show the differences (effects.differences: [{what, stored, folded}]). "
        "Stores the result only with --apply, which needs a --reason. Exit code 1 if there are differences that were "
        "not stored, 4 if --apply found none."
    )

    def add_targets(self, parser: CommandParser) -> None:
        super().add_targets(parser)
        parser.add_argument("--apply", action="store_true", help="replace the stored state by the result")
        add_payload_argument(parser)

    def is_decision(self, options: Options) -> bool:
        return bool(options["apply"])

    def decide(self, saga_id: str, options: Options, request: ActionRequest) -> ActionResult:
        return actions.replay(saga_id, apply=options["apply"], request=request)

    def code_of(self, outcome: ActionResult) -> int:
        return FAILED if outcome.dry_run and outcome.effects.get("differences") else DONE
