"""manage.py adopt: start a saga from unmatched events whose starting event never arrived."""

from django.core.management.base import CommandParser

from sagas import actions
from sagas.management.cli_base import Options
from sagas.management.decision_command import DecisionCommand, Job
from sagas.management.targets import ids_from, name_of
from sagas.nouns import shared


class Command(DecisionCommand):
    help = "Start a saga from the unmatched events of a key whose starting event never arrived."

    def add_targets(self, parser: CommandParser) -> None:
        parser.add_argument(
            "key", nargs="*", help=f"{shared().key_id} of unmatched events; none or -: from stdin, one per line"
        )
        parser.add_argument("--type", help=f"the saga type, if several know the {shared().key_id}")

    def jobs(self, options: Options) -> list[Job]:
        return [self._job(key, options["type"]) for key in ids_from(options["key"], shared().key_id)]

    def _job(self, key: str, saga_type: str | None) -> Job:
        own = name_of(key, shared().key_noun) or ""
        return Job([key], lambda request: actions.adopt(own, saga_type, request=request))
