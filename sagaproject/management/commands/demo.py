"""manage.py demo: the development stack, and the simulator that plays the three services on it."""

import signal
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from sagaproject import env
from sagaproject.simulator import options as simulator_options

if TYPE_CHECKING:
    from sagaproject.embedded.stack import Stack

# With services that keep silent or refuse, the story is told with short waits, so that it ends within a minute.
SHORT_WAITS = {
    "SAGA_CONFIRMATION_TIMEOUT": "4",
    "SAGA_RETRY_INITIAL_INTERVAL": "0.3",
    "SAGA_RETRY_BACKOFF_COEFFICIENT": "1.5",
    "SAGA_RETRY_MAXIMUM_INTERVAL": "2",
    "SAGA_RETRY_MAXIMUM_ATTEMPTS": "5",
}
ENDS_BADLY = ("silence_rate", "refuse_rate", "stubborn_rate")


class Command(BaseCommand):
    help = "Start the development stack and let the simulator play the three services on it, until Ctrl-C."
    _words: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        simulator_options.add_arguments(parser)
        parser.add_argument(
            "--json", action="store_true", help="print the verdict as one JSON object, as the last line"
        )

    def run_from_argv(self, argv: list[str]) -> None:
        # The simulator parses the same words again, in a process of its own.
        self._words = argv[2:]
        super().run_from_argv(argv)

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.ENVIRONMENT != "dev":
            raise CommandError("The demo is for development: set ENVIRONMENT=dev.")
        # The embedded servers come with requirements-dev.txt alone; production has this command, but not them.
        from sagaproject.embedded.process import StackError
        from sagaproject.embedded.stack import Stack, stop_signals

        extra = SHORT_WAITS if any(options[name] for name in ENDS_BADLY) else {}
        stack = Stack(env.stack_folder(), self.stderr.write, extra)
        asked_to_stop = stop_signals()
        verdict, code = "", 1
        try:
            stack.start()
            verdict, code = self._play(stack, asked_to_stop, as_json=options["json"])
        except StackError as error:
            raise CommandError(str(error)) from None
        finally:
            self.stderr.write("stopping …")
            stack.stop()
        if verdict:
            self.stdout.write(verdict)
        if code:
            raise SystemExit(code)

    def _play(self, stack: "Stack", asked_to_stop: Callable[[], bool], *, as_json: bool) -> tuple[str, int]:
        """Run the simulator to its end, or until somebody asks to stop; give its last line and its exit code."""
        self._greet(stack)
        simulator = subprocess.Popen(
            stack.leashed(stack.command("simulate_services", *self._words)),
            env=stack.environment,
            cwd=env.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if as_json else None,
            text=True,
        )
        asked = False
        while simulator.poll() is None:
            stack.watch()
            time.sleep(0.2)
            if asked_to_stop() and not asked:
                asked = True
                simulator.send_signal(signal.SIGINT)
        said = simulator.stdout.read().strip() if simulator.stdout else ""
        return said.rpartition("\n")[2], max(simulator.returncode, 0)

    def _greet(self, stack: "Stack") -> None:
        self.stderr.write(
            f"\nAdmin  {stack.base_url}/admin/      "
            f"login {stack.login['username']}, password {stack.login['password']}\n"
            f"API    {stack.base_url}/api/v1/saga/sagas\n"
            f"Docs   {stack.base_url}/api/docs/\n"
        )
