"""manage.py prune: let sagas that ended long ago go, with all their rows."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict

from django.conf import settings
from django.core.management.base import CommandParser

from sagas import retention
from sagas.management.cli_base import DONE, OperatorCommand, Options, UsageError
from sagas.retention import Pruned

PROGRESS_SECONDS = 2.0


class Command(OperatorCommand):
    help = (
        "Delete sagas that ended longer ago than --days, with all their rows; dismissed parked events and decided "
        "quarantined messages as old; and keys of pruned events older than SAGA_PRUNED_KEYS_DAYS. What waits for a "
        "person stays, and so does the audit. In small transactions, beside a system at work: may be interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, metavar="N", help="ended longer ago (default: SAGA_RETENTION_DAYS)")
        parser.add_argument("--limit", type=int, metavar="N", help="at most so many sagas, those that ended first")
        parser.add_argument("--dry-run", action="store_true", help="count what would leave, and change nothing")
        parser.add_argument(
            "--json",
            action="store_true",
            help="one object {days, dry_run, sagas, events, left, dismissed_events, messages, keys, seconds}; left: "
            "sagas that are old enough and stay",
        )

    def act(self, options: Options) -> int:
        days = settings.SAGA_RETENTION_DAYS if options["days"] is None else options["days"]
        if days < 1:
            raise UsageError("say --days N, at least 1: SAGA_RETENTION_DAYS is not set")
        if options["limit"] is not None and options["limit"] < 1:
            raise UsageError("--limit is at least 1")
        began = time.monotonic()
        done = self._count(days, options) if options["dry_run"] else self._prune(days, options)
        seconds = round(time.monotonic() - began, 1)
        with self.reporting() if not options["dry_run"] else nullcontext():
            if options["json"]:
                self.tell_data({"days": days, "dry_run": options["dry_run"], **asdict(done), "seconds": seconds})
            else:
                self._tell(done, seconds, dry_run=options["dry_run"])
        return DONE

    def _count(self, days: int, options: Options) -> Pruned:
        return retention.count(retention.days_ago(days), limit=options["limit"])

    def _prune(self, days: int, options: Options) -> Pruned:
        before, keys_before = retention.days_ago(days), retention.days_ago(settings.SAGA_PRUNED_KEYS_DAYS)
        shown = time.monotonic()
        total = Pruned()
        for done in retention.steps(before, keys_before, limit=options["limit"]):
            total += done
            if time.monotonic() - shown > PROGRESS_SECONDS:
                shown = time.monotonic()
                self.say(f"{total.sagas} sagas with {total.events} events pruned")
        return total

    def _tell(self, done: Pruned, seconds: float, *, dry_run: bool) -> None:
        would = "would leave" if dry_run else f"left in {seconds} s"
        self.tell(f"{done.sagas} sagas with {done.events} events {would}")
        if done.left:
            self.tell(f"{done.left} sagas that are old enough stay: something of them is open, or somebody holds them")
        if done.dismissed_events or done.messages:
            self.tell(f"{done.dismissed_events} dismissed events and {done.messages} decided messages {would}")
        if done.keys:
            self.tell(f"{done.keys} keys of what was pruned before are forgotten")
