"""manage.py verify_sagas: compare each saga's stored state with its log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import UUID

from django.core.management.base import CommandParser

from sagas.applying import verify
from sagas.error_text import shown_differences
from sagas.management.cli_base import DONE, FAILED, OperatorCommand, Options, UsageError, add_payload_argument
from sagas.management.output import LostAnswer, as_json
from sagas.management.targets import find_saga, ids_from
from sagas.nouns import shared

PROGRESS_SECONDS = 2.0


class Command(OperatorCommand):
    help = (
        "Compare each saga's stored state with the result of its log: all sagas, the given ones, or a --sample. The "
        "system may run meanwhile: a difference is checked again under the saga's lock. Exit code 1 on a difference."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "saga", nargs="*", help=f"saga id or {shared().key_id}, any number; -: read from stdin; none: all sagas"
        )
        parser.add_argument("--sample", type=int, metavar="N", help="N sagas chosen at random")
        add_payload_argument(parser)
        parser.add_argument(
            "--json",
            action="store_true",
            help="a line {id, differences: [{what, stored, folded}], error} for each saga that differs, then one "
            "object {verified, different, seconds}",
        )

    def act(self, options: Options) -> int:
        began = shown = time.monotonic()
        verified = different = 0
        for verdict in verify.each(self._ids(options)):
            verified += 1
            if not verdict.well:
                different += 1
                try:
                    self._report_verdict(verdict, payload=options["payload"], as_data=options["json"])
                    self.flush()
                except LostAnswer as lost:
                    self.lose_answer(lost)
                    return FAILED
            if time.monotonic() - shown > PROGRESS_SECONDS:
                shown = time.monotonic()
                self.say(f"{verified} sagas verified, {different} different")
        seconds = round(time.monotonic() - began, 1)
        with self.reporting():
            if options["json"]:
                self.tell_data({"verified": verified, "different": different, "seconds": seconds})
            else:
                result = f"{different} differ" if different else "all match"
                self.tell(f"{verified} sagas verified in {seconds} s: {result}")
        return FAILED if different else DONE

    def _ids(self, options: Options) -> Iterator[UUID]:
        if options["saga"]:
            if options["sample"] is not None:
                raise UsageError("give either sagas or --sample")
            return iter([find_saga(name).id for name in ids_from(options["saga"], "saga")])
        if options["sample"] is None:
            return verify.all_ids()
        if options["sample"] < 1:
            raise UsageError("--sample must be at least 1")
        return verify.some_ids(options["sample"])

    def _report_verdict(self, verdict: verify.Verdict, *, payload: bool, as_data: bool) -> None:
        differences = shown_differences([item._asdict() for item in verdict.differences], payload=payload)
        if as_data:
            self.tell_data({"id": verdict.saga_id, "differences": differences, "error": verdict.error})
            return
        self.tell(f"saga {verdict.saga_id}: {verdict.error or 'stored state does not match the log'}")
        for item in differences:
            self.tell(f"  {item['what']}: stored {as_json(item['stored'])}, rebuilt from log {as_json(item['folded'])}")
