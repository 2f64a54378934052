"""manage.py attach: say to which saga, or lane of it, the events of a key belong, or one event."""

from django.core.management.base import CommandParser

from sagas import decisions
from sagas.decisions import ActionRequest, ActionResult
from sagas.management.cli_base import Options
from sagas.management.decision_command import DecisionCommand, Job
from sagas.management.targets import find_saga, name_of


class Command(DecisionCommand):
    help = "Say that all events of a key, past and future, or one parked event, belong to a saga, or to a lane of it."

    def add_targets(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--key", help="the task id that the events name")
        what.add_argument("--event", help="the id of one parked event")
        parser.add_argument("--saga", required=True, help="saga id or task id")
        parser.add_argument("--image", help="the lane, for events that name none")

    def jobs(self, options: Options) -> list[Job]:
        key, event = name_of(options["key"], "a task"), name_of(options["event"], "an event")
        lane = name_of(options["image"], "an image")

        def run(request: ActionRequest) -> ActionResult:
            saga = find_saga(options["saga"])
            return decisions.attach(saga_id=saga.id, key=key, event=event, lane=lane, request=request)

        return [Job([key or event or ""], run)]
