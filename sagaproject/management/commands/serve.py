"""manage.py serve: the web server, as API_HOST, API_PORT and API_RELOAD say."""

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from gunicorn.app.base import BaseApplication

from sagaproject.wsgi import application


class Command(BaseCommand):
    help = "Serve API and admin by gunicorn on API_HOST:API_PORT, until SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workers", type=int, default=2, help="processes (default %(default)s)")
        parser.add_argument("--threads", type=int, default=8, help="threads of each (default %(default)s)")

    def handle(self, *args: Any, workers: int, threads: int, **options: Any) -> None:
        sys.argv = sys.argv[:1]  # gunicorn would read our words as its own
        _Server(
            bind=f"{settings.API_HOST}:{settings.API_PORT}",
            workers=workers,
            threads=threads,
            reload=settings.API_RELOAD,
            graceful_timeout=3,
            control_socket_disable=True,
            # A worker that answers no heartbeat for so long hangs, and is started again.
            timeout=60,
        ).run()


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, **options: Any) -> None:
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return application
