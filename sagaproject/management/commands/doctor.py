"""manage.py doctor: is everything well, and if not, what to do."""

import json
import logging
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sagaproject import doctor


class Command(BaseCommand):
    help = (
        "Tell in plain words whether database, migrations, Celery broker, worker, beat, token, Pulsar, topics and "
        "bridge are well, each with what to do if not. Exit code 0 only if all are, else 1."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="one JSON object: {well, findings: [{name, well, says, do}]}"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        logging.disable(logging.CRITICAL)  # the findings say it in words
        findings = []
        for finding in doctor.examine():
            findings.append(finding)
            if not options["json"]:
                self._show(finding)
        well = all(finding.well for finding in findings)
        if options["json"]:
            self.stdout.write(json.dumps({"well": well, "findings": [finding.as_json() for finding in findings]}))
        else:
            self.stdout.write("Everything is well." if well else "Not everything is well.")
        if not well:
            raise SystemExit(1)

    def _show(self, finding: doctor.Finding) -> None:
        mark = self.style.SUCCESS("well  ") if finding.well else self.style.ERROR("broken")
        self.stdout.write(f"{mark}  {finding.name:<14} {finding.says}")
        if finding.do:
            self.stdout.write(f"{'':<24}{finding.do}")
        self.stdout.flush()
