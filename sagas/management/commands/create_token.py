"""manage.py create_token: create a token for a program that uses the API."""

import re
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.core.management.base import CommandParser
from django.db import transaction
from knox.models import get_token_model

from sagas.errors import NotFound, Refused
from sagas.management.cli_base import DONE, OperatorCommand, Options, UsageError
from sagas.management.wording import when

UNITS = {"d": "days", "h": "hours", "m": "minutes"}


class Command(OperatorCommand):
    help = (
        "Create an API token and print it once: only its hash is stored. A program sends it as "
        '"Authorization: Token ...". --json gives {user, token, expires_at}.'
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, help="the login whose permissions the token has")
        parser.add_argument("--expires", default="90d", metavar="TIME", help="lifetime: 90d, 12h or 30m (default: 90d)")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def act(self, options: Options) -> int:
        users = get_user_model()
        user = users.objects.filter(**{users.USERNAME_FIELD: options["user"]}).first()
        if user is None:
            raise NotFound(f"there is no login {options['user']}: create it in the admin, or with createsuperuser")
        if not user.is_active:
            raise Refused(f"the login {options['user']} is not active")
        # A token that could not be printed must not exist: nobody would have it.
        with transaction.atomic():
            row, token = get_token_model().objects.create(user=user, expiry=lifetime(options["expires"]))
            if options["json"]:
                self.tell_data({"user": user.get_username(), "token": token, "expires_at": row.expiry})
            else:
                self.tell(token)
            self.flush()
        if not options["json"]:
            self.say(f"Save it now: it is not shown again. Valid for {user.get_username()} until {when(row.expiry)}.")
        return DONE


def lifetime(text: str) -> timedelta:
    """Parse a lifetime such as 90d, 12h or 30m. Raises UsageError."""
    found = re.fullmatch(r"([1-9]\d{0,5})([dhm])", text)
    if found is None:
        raise UsageError(f"{text} is not a valid lifetime: use for example 90d, 12h or 30m")
    try:
        return timedelta(**{UNITS[found[2]]: int(found[1])})
    except OverflowError:
        raise UsageError(f"{text} is too long") from None
