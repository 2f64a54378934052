"""The doors to decisions on quarantined messages."""

from __future__ import annotations

from django.core.management.base import CommandParser

from sagas.decisions import ActionRequest, ActionResult
from sagas.management.cli_base import Options, UsageError
from sagas.management.decision_command import DecisionCommand, Job
from sagas.management.targets import ids_from


class MessageDecisionCommand(DecisionCommand):
    """A decision on quarantined messages, each by itself."""

    def decide(self, message: int, request: ActionRequest) -> ActionResult:
        """The decision on one message."""
        raise NotImplementedError

    def add_targets(self, parser: CommandParser) -> None:
        """Adds the messages' numbers."""
        parser.add_argument("message", nargs="*", help="number in the quarantine; none, or -: one a line from stdin")

    def jobs(self, options: Options) -> list[Job]:
        """One call for each message."""
        return [self._job(name) for name in ids_from(options["message"], "message")]

    def _job(self, name: str) -> Job:
        if not (name.isascii() and name.isdigit() and int(name) < 2**63):
            raise UsageError(f"{name} is no number of a quarantined message")
        return Job([name], lambda request: self.decide(int(name), request))
