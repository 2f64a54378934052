"""manage.py show_saga: what a saga waits for, its lanes, its commands, its timeline."""

from django.core.management.base import CommandParser

from sagas.management.cli_base import DONE, OperatorCommand, Options, UsageError, add_payload_argument
from sagas.management.saga_report import report, report_lines
from sagas.management.targets import find_saga
from sagas.nouns import shared


class Command(OperatorCommand):
    help = "Show one saga: what it waits for, its parts, its commands, and its timeline as text."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("saga", help=f"saga id or {shared().key_id}")
        parser.add_argument("--limit", type=int, default=200, help="at most N parts, N commands and N timeline entries")
        add_payload_argument(parser)
        parser.add_argument(
            "--json",
            action="store_true",
            help="one JSON object: the item of list_sagas with metadata, waiting, and lanes, commands and timeline as "
            "{total, items}",
        )

    def act(self, options: Options) -> int:
        if options["limit"] < 1:
            raise UsageError("--limit must be at least 1")
        saga = find_saga(options["saga"])
        if options["json"]:
            self.tell_data(report(saga, options["limit"], payload=options["payload"]))
        else:
            for line in report_lines(saga, options["limit"], payload=options["payload"]):
                self.tell(line)
        return DONE
