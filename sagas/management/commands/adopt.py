"""manage.py adopt: start a saga from parked events that no starting event ever came for."""

from django.core.management.base import CommandParser

from sagas import decisions
from sagas.management.cli_base import Options
from sagas.management.decision_command import DecisionCommand, Job
from sagas.management.targets import ids_from, name_of


class Command(DecisionCommand):
    help = "Start a saga from the parked events of a key that no starting event ever came for."

    def add_targets(self, parser: CommandParser) -> None:
        parser.add_argument("key", nargs="*", help="the task id of parked events; none, or -: one a line from stdin")
        parser.add_argument("--type", help="the saga type, should several know the key")

    def jobs(self, options: Options) -> list[Job]:
        return [self._job(key, options["type"]) for key in ids_from(options["key"], "key")]

    def _job(self, key: str, saga_type: str | None) -> Job:
        own = name_of(key, "a task") or ""
        return Job([key], lambda request: decisions.adopt(own, saga_type, request=request))
