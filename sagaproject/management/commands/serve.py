"""manage.py serve: run the web server, configured by API_HOST, API_PORT and API_RELOAD."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from django.utils import autoreload

from sagaproject import web_processes, web_server
from sagaproject.wsgi import application


class Command(BaseCommand):
    help = "Serve API and admin on API_HOST:API_PORT until SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workers", type=int, default=2, help="number of processes (default %(default)s)")
        parser.add_argument("--threads", type=int, default=8, help="threads per process (default %(default)s)")

    def handle(self, *args: Any, workers: int, threads: int, **options: Any) -> None:
        if workers < 1 or threads < 1:
            raise CommandError("--workers and --threads must be at least 1.")
        connections.close_all()  # opened by the system checks; processes must not share one
        if settings.API_RELOAD:
            autoreload.run_with_reloader(_serve_in_process, threads)
        elif workers == 1:
            _serve_in_process(threads, handle_signals=True)
        else:
            listener = _listen()
            web_processes.run(workers, lambda: web_server.run(web_server.ChildServer(application, listener, threads)))


def _serve_in_process(threads: int, handle_signals: bool = False) -> None:
    server = web_server.Server(application, _listen(), threads)
    if handle_signals:
        web_server.run(server)
    else:
        server.run()


def _listen() -> Any:
    try:
        return web_server.listen(settings.API_HOST, settings.API_PORT)
    except OSError as error:
        raise CommandError(f"Cannot listen on {settings.API_HOST}:{settings.API_PORT}: {error.strerror}.") from None
