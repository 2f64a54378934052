"""manage.py list_sagas: list sagas, newest first."""

from django.core.management.base import CommandParser

from sagas.definitions import registry, type_names
from sagas.error_text import shown_text
from sagas.management.cli_base import DONE, OperatorCommand, Options, UsageError, add_payload_argument
from sagas.management.saga_report import summary
from sagas.management.targets import moment
from sagas.management.wording import table, when
from sagas.models import SagaStatusChoice
from sagas.nouns import shared
from sagas.queries import sagas
from sagas.queries.sagas import SagaFilters


class Command(OperatorCommand):
    help = "List sagas, newest first, that match all given filters. --ids prints input for the commands that decide."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--status", choices=SagaStatusChoice.values)
        parser.add_argument("--from", dest="from_date", metavar="T", help="started at or after this time (ISO 8601)")
        parser.add_argument("--to", dest="to_date", metavar="T", help="started at or before; a date means its end")
        parser.add_argument("--task", default="", help=f"received events of this {shared().key_id}")
        parser.add_argument("--image", default="", help=f"has this {shared().entity_noun}, by its id")
        parser.add_argument(
            "--type", default="", help="has this saga type, such as image_processing or IMAGE_PROCESSING"
        )
        parser.add_argument("--set-aside", action="store_true", help="blocked by an error")
        parser.add_argument("--limit", type=int, default=20)
        parser.add_argument("--offset", type=int, default=0)
        add_payload_argument(parser)
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--ids", action="store_true", help="only the ids, one a line")
        form.add_argument(
            "--json",
            action="store_true",
            help="one JSON object: {total, offset, limit, items: [{id, correlation_id, saga_type, status, steps_count, "
            "failed_steps_count, start_time, end_time, error_message, task_id}]}",
        )

    def act(self, options: Options) -> int:
        if options["limit"] < 1 or options["offset"] < 0:
            raise UsageError("--limit must be at least 1 and --offset at least 0")
        page = sagas.list_sagas(_filters(options), options["offset"], options["limit"])
        if options["json"]:
            items = [summary(saga, payload=options["payload"]) for saga in page.items]
            self.tell_data({"total": page.total, "offset": page.offset, "limit": page.limit, "items": items})
        elif options["ids"]:
            for saga in page.items:
                self.tell(str(saga.id))
        else:
            rows = [
                (s.id, s.status, when(s.start_time), s.key, shown_text(s.error_message, payload=options["payload"]))
                for s in page.items
            ]
            for line in table(("saga", "status", "started", shared().key_noun, "error"), rows):
                self.tell(line)
            self.tell(f"{len(page.items)} of {page.total}")
        return DONE


def _filters(options: Options) -> SagaFilters:
    return SagaFilters(
        status=options["status"] or "",
        from_date=moment(options["from_date"]) if options["from_date"] else None,
        to_date=moment(options["to_date"], end_of_day=True) if options["to_date"] else None,
        task_id=options["task"],
        image_id=options["image"],
        saga_type=registry.current(type_names.stored(options["type"])).name if options["type"] else "",
        set_aside=options["set_aside"],
    )
