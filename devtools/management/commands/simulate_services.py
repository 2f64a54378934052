"""manage.py simulate_services: play the three services on Pulsar and check that every saga ends as expected."""

import signal
import sys
import threading
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from devtools import screen as screens
from devtools.screen import Screen
from devtools.simulator import options, table
from devtools.simulator.api import ApiError
from devtools.simulator.options import OptionError
from devtools.simulator.report import Report
from devtools.simulator.run import simulate
from devtools.simulator.transport import Broker, TransportError
from sagas.management.output import TextCommand, as_json


class Command(TextCommand):
    help = (
        "Play Data Retrieval, Anonymization and Processing: send the events of many tasks, answer our commands, and "
        "check through the API that every saga ends as expected. Exit code 0 only if all do."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        options.add_arguments(parser)
        add = parser.add_argument
        add("--api-url", default="", help="…/api/v1/saga; default: this machine, the configured port")
        add("--api-token", default="", help="a token, if the API requires one")
        add("--json", action="store_true", help="print the report as one JSON object, the last line of stdout")
        add(
            "--answer-all",
            action="store_true",
            help="also answer commands of tasks that are not the simulator's: never against a production broker",
        )

    def handle(self, *args: Any, **given: Any) -> None:
        if settings.ENVIRONMENT != "dev":
            raise CommandError(
                "simulate_services requires ENVIRONMENT=dev: it would answer real commands in place of the services.",
                returncode=4,
            )
        screen = Screen()
        report = self._play(given, screen)
        if report is not None and given["json"]:
            screen.result(as_json(report.as_json()))
        if report is None or screen.gone:
            sys.exit(screens.EXIT_CODE)
        if not report.as_foreseen:
            sys.exit(1)

    def _play(self, given: dict[str, Any], screen: Screen) -> Report | None:
        """Run the simulator until its end or a signal; return None if the reader of its output is gone."""
        try:
            run_options = options.from_arguments(
                given,
                failure_scope=settings.SAGA_FAILURE_SCOPE,
                intake_silence=options.ending(settings.SAGA_INTAKE_SILENCE, given["timeout"]),
            )
            with table.display() as show:
                return simulate(
                    run_options,
                    Broker.from_settings(settings.PULSAR),
                    given["api_url"] or f"http://127.0.0.1:{settings.API_PORT}/api/v1/saga",
                    api_token=given["api_token"],
                    on_progress=show,
                    on_verdict=lambda report: screen.say(table.summary(report)),
                    stop=_stop_on_signals(),
                )
        except OptionError as error:
            raise CommandError(str(error), returncode=2) from error
        except (TransportError, ApiError) as error:
            raise CommandError(f"{settings.NO_STACK} {error}".strip()) from error
        except OSError as error:
            if not screens.is_gone(error):
                raise
            screen.lost()
            return None


def _stop_on_signals() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set, unless they are ignored, as in a background job."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: stop.set())
    return stop
