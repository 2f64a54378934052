"""manage.py up: run the development stack in the foreground."""

import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from devtools.screen import Screen
from sagaproject import env


class Command(BaseCommand):
    help = "Run PostgreSQL, Valkey, Pulsar, web server, bridge, worker and beat on this machine until Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.ENVIRONMENT != "dev":
            raise CommandError("The embedded stack is for development: set ENVIRONMENT=dev.")
        # Only requirements-stack.txt installs the embedded servers; production has this command but not the servers.
        from devtools.embedded.foreground import running
        from devtools.embedded.process import StackError
        from devtools.embedded.stack import Stack

        screen = Screen()
        stack = Stack(env.stack_folder(), screen.say)
        try:
            with running(stack, screen) as asked_to_stop:
                screen.result(stack.greeting())
                while not asked_to_stop():
                    stack.watch()
                    time.sleep(0.2)
        except StackError as error:
            raise CommandError(str(error)) from None
