"""manage.py prune: delete sagas that ended long ago, with all their rows."""

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
        "Delete sagas that ended more than --days ago, with all their rows; dismissed unmatched events and decided "
        "quarantined messages of the same age; and keys of pruned events older than SAGA_PRUNED_KEYS_DAYS. Whatever "
        "needs attention stays, and so does the audit. Works in small transactions on a running system and may be "
        "interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days", type=int, metavar="N", help="ended over N days ago (default: SAGA_RETENTION_DAYS)"
        )
        parser.add_argument("--limit", type=int, metavar="N", help="at most N sagas, those that ended first")
        parser.add_argument("--dry-run", action="store_true", help="count what would be deleted, change nothing")
        parser.add_argument(
            "--json",
            action="store_true",
            help="one object {days, dry_run, sagas, events, left, dismissed_events, messages, keys, job_items, "
            "seconds}; left: sagas that are old enough and stay",
        )

    def act(self, options: Options) -> int:
        days = settings.SAGA_RETENTION_DAYS if options["days"] is None else options["days"]
        if days < 1:
            raise UsageError("give --days N, at least 1: SAGA_RETENTION_DAYS is not set")
        if options["limit"] is not None and options["limit"] < 1:
            raise UsageError("--limit must be at least 1")
        began = time.monotonic()
        done = self._count(days, options) if options["dry_run"] else self._prune(days, options)
        seconds = round(time.monotonic() - began, 1)
        with self.reporting() if not options["dry_run"] else nullcontext():
            if options["json"]:
                self.tell_data({"days": days, "dry_run": options["dry_run"], **asdict(done), "seconds": seconds})
            else:
                self._report(done, seconds, dry_run=options["dry_run"])
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

    def _report(self, done: Pruned, seconds: float, *, dry_run: bool) -> None:
        verb = "would be deleted" if dry_run else f"deleted in {seconds} s"
        self.tell(f"{done.sagas} sagas with {done.events} events {verb}")
        if done.left:
            self.tell(f"{done.left} sagas that are old enough stay: part of them is open, or they are locked")
        if done.dismissed_events or done.messages:
            self.tell(f"{done.dismissed_events} dismissed events and {done.messages} decided messages {verb}")
        if done.job_items:
            self.tell(f"{done.job_items} items of earlier jobs {verb}")
        if done.keys:
            self.tell(f"{done.keys} keys of earlier pruned events deleted")
