"""manage.py demo: run the development stack with the simulator, which plays the three services."""

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from devtools import screen as screens
from devtools.screen import Screen
from devtools.simulator import options as simulator_options
from devtools.simulator import table
from devtools.simulator.api import ApiError
from devtools.simulator.report import Report
from devtools.simulator.run import simulate
from devtools.simulator.transport import Broker, TransportError
from sagaproject import env
from sagas.management.output import TextCommand, as_json

if TYPE_CHECKING:
    from devtools.embedded.stack import Stack

# If the simulated services do not answer or refuse, short timeouts let the demo end within a minute.
SHORT_WAITS = {
    "SAGA_CONFIRMATION_TIMEOUT": "4",
    "SAGA_RETRY_INITIAL_INTERVAL": "0.3",
    "SAGA_RETRY_BACKOFF_COEFFICIENT": "1.5",
    "SAGA_RETRY_MAXIMUM_INTERVAL": "2",
    "SAGA_RETRY_MAXIMUM_ATTEMPTS": "5",
}
# Without a report of the retrieval's end, silence ends it: soon, in a demo.
SILENCE_SECONDS = 5.0
FAILING_RATES = ("silence_rate", "refuse_rate", "stubborn_rate")


class Command(TextCommand):
    help = (
        "Run the development stack, with the simulator playing the three services, until Ctrl-C. "
        "With --once it stops after the verdict; exit code 0 only if every saga ended as expected."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        simulator_options.add_arguments(parser)
        parser.add_argument(
            "--json", action="store_true", help="print the verdict as one JSON object, as the last line"
        )

    def handle(self, *args: Any, **given: Any) -> None:
        if settings.ENVIRONMENT != "dev":
            raise CommandError("The demo is for development: set ENVIRONMENT=dev.")
        # Only requirements-stack.txt installs the embedded servers; production has this command but not the servers.
        from devtools.embedded.foreground import running
        from devtools.embedded.process import StackError
        from devtools.embedded.stack import Stack

        screen = Screen()
        waits = dict(SHORT_WAITS) if any(given[name] for name in FAILING_RATES) else {}
        by_silence = given["complete_rate"] < 1
        if by_silence:
            waits["SAGA_INTAKE_SILENCE"] = f"{SILENCE_SECONDS:g}"
        stack = Stack(env.stack_folder(), screen.say, waits)
        # What the environment says takes precedence over the demo's own value.
        silence = float(stack.environment["SAGA_INTAKE_SILENCE"]) if by_silence else 0.0
        try:
            run_options = simulator_options.from_arguments(
                given,
                failure_scope=settings.SAGA_FAILURE_SCOPE,
                intake_silence=simulator_options.ending(silence, given["timeout"]),
            )
        except simulator_options.OptionError as error:
            raise CommandError(str(error), returncode=2) from None
        if by_silence:
            screen.say(_about_silence(run_options, silence))
        try:
            with running(stack, screen) as asked_to_stop:
                screen.say(stack.greeting())
                report = _play(stack, run_options, screen, asked_to_stop)
        except (StackError, TransportError, ApiError) as error:
            raise CommandError(str(error)) from None
        if given["json"]:
            screen.result(as_json(report.as_json()))
        if not report.as_foreseen:
            raise SystemExit(1)


def _about_silence(run_options: simulator_options.Options, silence: float) -> str:
    """Explain what the screen shows of tasks whose retrieval reports no end. silence: SAGA_INTAKE_SILENCE, seconds."""
    reported = (
        f"Data Retrieval reports the end of {run_options.complete_rate:.0%} of the retrievals (the platform's own "
        "services report none).\n"
    )
    if not run_options.intake_silence:
        why = f"is {silence:g} s, not less than --timeout ({run_options.timeout:g} s)" if silence else "is 0"
        return f"{reported}SAGA_INTAKE_SILENCE {why}: no silence is expected to end the others in this demo."
    return (
        f"{reported}The others end by silence: once all known images of a task are processed or undone, "
        f"the service waits {run_options.intake_silence:g} s (in production 15 minutes)\nfor further events; then no "
        "further images are expected, and the saga has ended. Its timeline says so. Scenario: no end reported."
    )


def _play(
    stack: "Stack", run_options: simulator_options.Options, screen: Screen, asked_to_stop: Callable[[], bool]
) -> Report:
    """Run the simulator beside the supervisor, which must stay in this thread; return its report.

    However this ends, the simulator is asked to stop. After an error this does not wait for it: it may be waiting for
    servers that no longer answer, and ends when the stack has stopped.
    """
    from devtools.embedded import disk
    from devtools.embedded.process import StackError

    stop = threading.Event()
    pool = ThreadPoolExecutor(1, thread_name_prefix="demo")
    run = pool.submit(_simulate, stack, run_options, screen, stop)
    try:
        while not run.done():
            stack.watch()
            time.sleep(0.2)
            if asked_to_stop():
                stop.set()
        return run.result()
    except OSError as error:
        # The live table writes in the simulator's thread.
        if not screens.is_gone(error):
            raise StackError(disk.complaint(error, stack.folder)) from error
        screen.lost()
        raise SystemExit(screens.EXIT_CODE) from None
    finally:
        stop.set()
        pool.shutdown(wait=False)


def _simulate(stack: "Stack", run_options: simulator_options.Options, screen: Screen, stop: threading.Event) -> Report:
    broker = Broker.from_settings({**settings.PULSAR, "service_url": stack.environment["PULSAR_SERVICE_URL"]})
    with contextlib.ExitStack() as shown:
        show = shown.enter_context(table.display())

        def conclude(report: Report) -> None:
            shown.close()
            screen.say(f"\n{table.summary(report)}\n{stack.greeting()}")

        return simulate(run_options, broker, stack.api_url, on_progress=show, on_verdict=conclude, stop=stop)
