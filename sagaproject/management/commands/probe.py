"""manage.py probe: for container health checks; one part, no words, exit code 0 or 1."""

import http.client
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from sagaproject import doctor


class Command(BaseCommand):
    help = "Exit with 0 if web (here), bridge or beat (by its heartbeat) is well, else with 1. doctor says more."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("part", choices=("web", "bridge", "beat"))

    def handle(self, *args: Any, part: str, **options: Any) -> None:
        if part == "web":
            well = self._web_answers()
        else:
            well = (doctor.check_bridge if part == "bridge" else doctor.check_beat)().well
        if not well:
            raise SystemExit(1)

    def _web_answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", settings.API_PORT, timeout=5)
        try:
            connection.request("GET", "/health", headers={"Host": settings.ALLOWED_HOSTS[0].lstrip(".")})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
