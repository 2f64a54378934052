"""manage.py up: the development stack, in the foreground."""

import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from sagaproject import env


class Command(BaseCommand):
    help = "Start PostgreSQL, Valkey, Pulsar, web server, bridge, worker and beat on this machine, until Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.ENVIRONMENT != "dev":
            raise CommandError("The embedded stack is for development: set ENVIRONMENT=dev.")
        # The embedded servers come with requirements-dev.txt alone; production has this command, but not them.
        from sagaproject.embedded.process import StackError
        from sagaproject.embedded.stack import Stack, stop_signals

        stack = Stack(env.stack_folder(), self.stderr.write)
        asked_to_stop = stop_signals()
        try:
            stack.start()
            self._greet(stack.base_url, stack.login)
            while not asked_to_stop():
                stack.watch()
                time.sleep(0.2)
        except StackError as error:
            raise CommandError(str(error)) from None
        finally:
            self.stderr.write("stopping …")
            stack.stop()
        self.stderr.write("stopped; data and logs stay in " + str(stack.folder))

    def _greet(self, base_url: str, login: dict[str, str]) -> None:
        self.stdout.write(
            f"\nAdmin  {base_url}/admin/      login {login['username']}, password {login['password']}\n"
            f"API    {base_url}/api/v1/saga/sagas\n"
            f"Docs   {base_url}/api/docs/\n"
            "Ctrl-C stops everything.\n"
        )
