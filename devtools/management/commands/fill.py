"""manage.py fill: write many sagas quickly, to size or measure a machine."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.utils import timezone

from bridge import instants
from devtools.filling import fill
from devtools.filling.fill import FillSpec
from devtools.simulator.options import OptionError, image_range, share
from sagas.management.output import TextCommand
from sagas.models import SagaLog

PROGRESS_SECONDS = 2.0


class Command(TextCommand):
    help = (
        "Fill the database with sagas as the service itself would have written them: a few hundred event sequences, "
        "run through the real engine and copied with new ids and times. For sizing or measuring a machine. The "
        "commands of open sagas are due: pause sending first if a running worker should not send them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("--sagas", type=int, required=True, metavar="N", help="number of sagas")
        add("--images", type=image_range, default=(1, 5), metavar="A-B", help="images per saga (default 1-5)")
        add("--since", type=_moment, metavar="DATE", help="the first start time (default: a year ago)")
        add("--until", type=_moment, metavar="DATE", help="the last start time (default: now)")
        add("--in-flight", type=share, default=0.01, help="share of open sagas (default %(default)s)")
        add("--seed", type=int, default=1, help="the same seed gives the same sequences, with new ids (%(default)s)")
        add("--writers", type=int, default=2, help="number of writing connections (default %(default)s)")
        add("--yes", action="store_true", help="add to existing sagas")
        add("--json", action="store_true", help="print one object {sagas, events, statuses, seconds} at the end")

    def handle(self, *args: Any, **given: Any) -> None:
        if settings.ENVIRONMENT != "dev":
            raise CommandError(
                "fill requires ENVIRONMENT=dev: generated sagas must not get into production.", returncode=4
            )
        spec = self._spec(given)
        if not given["yes"] and SagaLog.objects.exists():
            raise CommandError("There are sagas already: use --yes to add to them.", returncode=4)
        began = self._shown = time.monotonic()
        try:
            filled = fill.fill(spec, lambda done: self._show(done, spec.sagas, time.monotonic() - began))
        except OptionError as error:
            raise CommandError(str(error), returncode=2) from error
        self.say("vacuum and analyze …")
        fill.analyze()
        seconds = round(time.monotonic() - began, 1)
        statuses = dict(sorted(filled.statuses.items()))
        with self.reporting():
            if given["json"]:
                self.tell_data(
                    {"events": filled.events, "sagas": filled.sagas, "seconds": seconds, "statuses": statuses}
                )
                return
            self.tell(f"{filled.sagas:,} sagas with {filled.events:,} events in {seconds} s")
            for status, count in statuses.items():
                self.tell(f"  {status} {count:,}")

    def _spec(self, given: dict[str, Any]) -> FillSpec:
        until = given["until"] or timezone.now()
        since = given["since"] or until - timedelta(days=365)
        if given["sagas"] < 1 or given["writers"] < 1:
            raise CommandError("--sagas and --writers must be at least 1.", returncode=2)
        if since >= until:
            raise CommandError("--since must be before --until.", returncode=2)
        return FillSpec(
            given["sagas"], given["images"], since, until, given["in_flight"], given["seed"], given["writers"]
        )

    def _show(self, done: int, of: int, seconds: float) -> None:
        if time.monotonic() - self._shown > PROGRESS_SECONDS:
            self._shown = time.monotonic()
            self.say(f"{done:,} of {of:,} sagas, {done / seconds:,.0f} per second")


def _moment(text: str) -> datetime:
    try:
        return instants.parse_bound(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither a date such as 2026-01-31 nor an ISO 8601 time") from None
