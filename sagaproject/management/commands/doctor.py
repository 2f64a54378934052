"""manage.py doctor: is everything well, and if not, what to do."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sagaproject import doctor
from sagaproject.doctor import Finding, Level


class Command(BaseCommand):
    help = (
        "Say in plain words whether database, Celery's broker, worker, beat, Pulsar, bridge, publishing and what they "
        "depend on are well, each with what to do if not. Exit code 1 if there is an error, else 0, also with warnings."
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
        logging.disable(logging.CRITICAL)  # the findings say it in words
        findings = []
        for finding in doctor.examine():
            findings.append(finding)
            if not options["json"]:
                self._show(finding)
        if options["json"]:
            well = all(finding.well for finding in findings)
            self.stdout.write(json.dumps({"well": well, "findings": [finding.as_json() for finding in findings]}))
        else:
            self.stdout.write(verdict(findings))
        if any(finding.level == Level.ERROR for finding in findings):
            raise SystemExit(1)

    def _show(self, finding: Finding) -> None:
        mark = {
            Level.OK: self.style.SUCCESS("ok     "),
            Level.SKIPPED: "skipped",
            Level.WARNING: self.style.WARNING("warning"),
            Level.ERROR: self.style.ERROR("error  "),
        }[finding.level]
        self.stdout.write(f"{mark}  {finding.name:<15} {finding.says}")
        if finding.do:
            self.stdout.write(f"{'':<25}{finding.do}")
        self.stdout.flush()


def verdict(findings: Sequence[Finding]) -> str:
    """The last line. Only without warnings and errors it says that everything is well."""
    count = Counter(finding.level for finding in findings)
    errors, warnings, unchecked = count[Level.ERROR], count[Level.WARNING], count[Level.SKIPPED]
    if errors or warnings:
        return f"Not everything is well: {errors} errors, {warnings} warnings."
    return f"Everything that was checked is well; {unchecked} skipped." if unchecked else "Everything is well."
