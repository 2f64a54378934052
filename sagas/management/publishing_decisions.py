"""Base of the manage.py commands that pause and resume sending commands."""

from __future__ import annotations

from django.core.management.base import CommandParser

from compensation.switches import EVERYTHING
from sagas import actions
from sagas.management.cli_base import Options
from sagas.management.decision_command import DecisionCommand, Job


class PublishingDecisionCommand(DecisionCommand):
    """Pause or resume sending commands. A repeated request changes nothing and reports that (effects.changed)."""

    paused: bool

    def add_targets(self, parser: CommandParser) -> None:
        """Add the service."""
        parser.add_argument("--service", help="only this service's commands, such as DATA_RETRIEVAL")
        if not self.paused:
            parser.add_argument(
                "--only",
                choices=("switch", "breaker"),
                help="resume only the service's switch, or only its circuit breaker (default: whichever pauses it)",
            )

    def jobs(self, options: Options) -> list[Job]:
        """Return the one call."""
        name = options["service"]
        switch = EVERYTHING if name is None else name
        only = options.get("only")
        return [Job([switch], lambda request: actions.set_publishing(self.paused, name, request=request, only=only))]
