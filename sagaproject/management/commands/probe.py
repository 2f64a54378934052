"""manage.py probe: check one part for a container health check; no output, exit code 0 or 1."""

import http.client
import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError

from bridge import heartbeats
from bridge.models import HeartbeatKind
from compensation import health


class Command(BaseCommand):
    help = (
        "Exit with 0 if web (here), bridge (of this host) or beat (with a worker) is healthy, otherwise with 1. The "
        "last two are checked by their heartbeats, like GET health. Use doctor for details."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("part", choices=("web", "bridge", "beat"))

    def handle(self, *args: Any, part: str, **options: Any) -> None:
        if not {"web": self._web_answers, "bridge": self._is_bridge_ok, "beat": self._is_beat_ok}[part]():
            raise SystemExit(1)

    def _is_bridge_ok(self) -> bool:
        """Check only the bridges of this host: another host's bridge must not hide that this one is dead."""
        try:
            here = [row for row in heartbeats.read(HeartbeatKind.BRIDGE) if row.host == socket.gethostname()]
        except DatabaseError:
            return False
        return not health.bridge(here).is_error

    def _is_beat_ok(self) -> bool:
        try:
            return not health.worker(heartbeats.read(HeartbeatKind.SWEEPER)).is_error
        except DatabaseError:
            return False

    def _web_answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", settings.API_PORT, timeout=5)
        try:
            connection.request("GET", "/health", headers={"Host": settings.ALLOWED_HOSTS[0].lstrip(".")})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
