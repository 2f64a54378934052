"""manage.py dismiss: hide unmatched events from the attention list."""

from django.core.management.base import CommandParser

from sagas import actions
from sagas.management.cli_base import Options
from sagas.management.decision_command import DecisionCommand, Job
from sagas.management.targets import name_of
from sagas.nouns import shared


class Command(DecisionCommand):
    help = "Hide unmatched events, all of a key or one. They stay, and are applied if their saga appears."

    def add_targets(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--key", help=f"the {shared().key_id} that the events name")
        what.add_argument("--event", help="the id of one unmatched event")

    def jobs(self, options: Options) -> list[Job]:
        key, event = name_of(options["key"], shared().key_noun), name_of(options["event"], "event")
        return [Job([key or event or ""], lambda request: actions.dismiss(key=key, event=event, request=request))]
