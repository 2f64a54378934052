"""manage.py doctor: check every part of the service and advise what to do about problems."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from sagaproject import doctor
from sagaproject.doctor import Finding, FindingLevel
from sagas.management.output import TextCommand


class Command(TextCommand):
    help = (
        "Check database, Celery broker, worker, beat, Pulsar, bridge, publishing and what they depend on, and say what "
        "to do about each problem. Exit code 1 if there is an error, otherwise 0, also with warnings."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--json",
            action="store_true",
            help="one JSON object: {well, findings: [{name, well, level, says, do}]}; level is ok, skipped, warning or "
            "error, and well is true only without warnings and errors",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.NO_STACK:
            self.say(settings.NO_STACK)
        with _without_logs():
            findings = self._examine(show=not options["json"])
        with self.reporting():
            if options["json"]:
                well = all(finding.well for finding in findings)
                self.tell_data({"well": well, "findings": [finding.as_json() for finding in findings]})
            else:
                self.tell(verdict(findings))
        if any(finding.level == FindingLevel.ERROR for finding in findings):
            raise SystemExit(1)

    def _examine(self, *, show: bool) -> list[Finding]:
        findings = []
        for finding in doctor.examine():
            findings.append(finding)
            if show:
                with self.reporting():
                    self._show(finding)
        return findings

    def _show(self, finding: Finding) -> None:
        marks: dict[FindingLevel, tuple[str, Callable[[str], str]]] = {
            FindingLevel.OK: ("ok     ", self.style.SUCCESS),
            FindingLevel.SKIPPED: ("skipped", str),
            FindingLevel.WARNING: ("warning", self.style.WARNING),
            FindingLevel.ERROR: ("error  ", self.style.ERROR),
        }
        mark, style = marks[finding.level]
        self.tell(f"  {finding.name:<15} {finding.says}", mark=mark, style=style)
        if finding.do:
            self.tell(f"{'':<25}{finding.do}")


@contextmanager
def _without_logs() -> Iterator[None]:
    """Suppress the logs of the parts under examination: the findings contain the same."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def verdict(findings: Sequence[Finding]) -> str:
    """Return the last line of the output."""
    count = Counter(finding.level for finding in findings)
    errors, warnings, unchecked = count[FindingLevel.ERROR], count[FindingLevel.WARNING], count[FindingLevel.SKIPPED]
    if errors or warnings:
        return f"Problems found: {errors} errors, {warnings} warnings."
    return f"All checks passed; {unchecked} skipped." if unchecked else "All checks passed."
