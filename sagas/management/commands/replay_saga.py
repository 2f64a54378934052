"""manage.py replay_saga: fold a saga's log again and show the difference; write it only with --apply."""

from django.core.management.base import CommandParser

from sagas import decisions
from sagas.decisions import ActionRequest, ActionResult
from sagas.management.cli_base import DONE, FAILED, Options, add_payload_argument
from sagas.management.decision_command import SagaDecisionCommand


class Command(SagaDecisionCommand):
    help = (
        "Fold a saga's log again and show what is stored otherwise (effects.differences: [{what, stored, folded}]). "
        "Writes nothing without --apply, and then needs a --reason. Exit code 1 if there is a difference that it did "
        "not write, 4 if --apply found none."
    )

    def add_targets(self, parser: CommandParser) -> None:
        super().add_targets(parser)
        parser.add_argument("--apply", action="store_true", help="write what the log folds to")
        add_payload_argument(parser)

    def is_decision(self, options: Options) -> bool:
        return bool(options["apply"])

    def decide(self, saga_id: str, options: Options, request: ActionRequest) -> ActionResult:
        return decisions.replay(saga_id, apply=options["apply"], request=request)

    def code_of(self, outcome: ActionResult) -> int:
        return FAILED if outcome.dry_run and outcome.effects.get("differences") else DONE
