"""Base of the manage.py commands that decide on quarantined messages."""

from __future__ import annotations

from django.core.management.base import CommandParser

from sagas.actions import ActionRequest, ActionResult
from sagas.management.cli_base import Options, UsageError
from sagas.management.decision_command import DecisionCommand, Job
from sagas.management.targets import ids_from


class MessageDecisionCommand(DecisionCommand):
    """A decision on quarantined messages, each in its own call."""

    def decide(self, message: int, request: ActionRequest) -> ActionResult:
        """Decide on one message."""
        raise NotImplementedError

    def add_targets(self, parser: CommandParser) -> None:
        """Add the messages' numbers."""
        parser.add_argument("message", nargs="*", help="number in quarantine; none or -: read from stdin, one per line")

    def jobs(self, options: Options) -> list[Job]:
        """Return one call for each message."""
        return [self._job(name) for name in ids_from(options["message"], "message")]

    def _job(self, name: str) -> Job:
        if not (name.isascii() and name.isdigit() and int(name) < 2**63):
            raise UsageError(f"{name} is not the number of a quarantined message")
        return Job([name], lambda request: self.decide(int(name), request))
