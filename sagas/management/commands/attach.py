"""manage.py attach: assign the events of a key, or one event, to a saga or to one part of it."""

from django.core.management.base import CommandParser

from sagas import actions
from sagas.actions import ActionRequest, ActionResult
from sagas.management.cli_base import Options
from sagas.management.decision_command import DecisionCommand, Job
from sagas.management.targets import find_saga, name_of
from sagas.nouns import shared


class Command(DecisionCommand):
    help = "Assign all events of a key, past and future, or one unmatched event, to a saga or to one part of it."

    def add_targets(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--key", help=f"the {shared().key_id} that the events name")
        what.add_argument("--event", help="the id of one unmatched event")
        parser.add_argument("--saga", required=True, help=f"saga id or {shared().key_id}")
        parser.add_argument("--image", help=f"the {shared().entity_id}, for events that name none")

    def jobs(self, options: Options) -> list[Job]:
        key, event = name_of(options["key"], shared().key_noun), name_of(options["event"], "event")
        lane = name_of(options["image"], shared().entity_noun)

        def run(request: ActionRequest) -> ActionResult:
            saga = find_saga(options["saga"])
            return actions.attach(saga_id=saga.id, key=key, event=event, lane=lane, request=request)

        return [Job([key or event or ""], run)]
