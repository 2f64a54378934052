"""manage.py dev_login: create the login of a development stack."""

import sys
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Create a superuser, or set a new password for it (read from stdin). Development only."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        if settings.ENVIRONMENT != "dev":
            raise CommandError("dev_login requires ENVIRONMENT=dev: in prod use createsuperuser.")
        password = sys.stdin.readline().strip()
        if not password:
            raise CommandError("No password on stdin.")
        user, _ = get_user_model().objects.get_or_create(username=username)
        user.is_staff = user.is_superuser = user.is_active = True
        if not user.check_password(password):
            user.set_password(password)
        user.save()
