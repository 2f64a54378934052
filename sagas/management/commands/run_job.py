"""manage.py run_job: make a decision on many items by a job, and wait for it with a progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandParser

from sagas import actions, jobs
from sagas.actions import ActionRequest, ActionSpec, FieldKind, Target, is_blank
from sagas.jobs.values import fields_of
from sagas.management import job_report
from sagas.management.cli_base import DONE, FAILED, REFUSED, OperatorCommand, Options, UsageError
from sagas.management.decision_command import login
from sagas.management.output import discard
from sagas.management.targets import find_saga, ids_from, is_terminal, saga_ids
from sagas.models import EntryPoint, Job, JobStatus

# Seconds between two looks at a job.
PAUSE = 1.0
_WAITED_FOR = (JobStatus.CHECKING, JobStatus.RUNNING)


class Command(OperatorCommand):
    help = (
        "Make a decision on many items by a job. Celery carries it out; this command only waits for it, and may be"
        " interrupted: the job goes on. Exit code 0 if all items are done, 1 if the job is paused or was stopped or"
        " some items were not carried out, 4 if it waits for the approval of another person."
    )
    sleep: Callable[[float], None] = staticmethod(time.sleep)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=[spec.name for spec in actions.in_jobs()])
        parser.add_argument("ids", nargs="*", help="ids of the items; none or -: read from stdin, one per line")
        parser.add_argument(
            "--where",
            action="append",
            metavar="NAME=VALUE",
            help="all items that match instead of ids, such as --where status=exhausted; may be given several times",
        )
        parser.add_argument("--all", action="store_true", help="all items without a filter")
        parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a value of the action")
        parser.add_argument("--reason", default="", help="required; stored with each decision")
        parser.add_argument("--rate", type=float, default=0.0, help="items per second (default: as fast as possible)")
        parser.add_argument(
            "--canary", type=int, default=0, help="the others follow when the commands of so many items are confirmed"
        )
        parser.add_argument("--dry-run", action="store_true", help="only check the items, and leave the job unstarted")
        parser.add_argument("--yes", action="store_true", help="do not ask; required without a terminal")
        parser.add_argument("--no-wait", action="store_true", help="print the job's id and leave")
        parser.add_argument("--json", action="store_true", help="print the job as one JSON object at the end")
        parser.add_argument("--actor", default="", help="who decides (default: cli:LOGIN on this machine)")
        parser.add_argument("--request-key", metavar="KEY", help="a request repeated with this key makes no second job")

    def act(self, options: Options) -> int:
        starts = not options["dry_run"]
        if starts and is_blank(options["reason"]):
            raise UsageError("--reason is required (to only check the items use --dry-run)")
        if starts and not options["yes"] and not is_terminal():
            raise UsageError("no terminal for the question: use --yes (to only check the items use --dry-run)")
        spec = actions.get(options["action"])
        by = ActionRequest(
            actor=options["actor"] or login(),
            door=EntryPoint.COMMAND.value,
            reason=options["reason"],
            idempotency_key=options["request_key"],
        )
        speed = jobs.Speed(rate=options["rate"], canary=options["canary"])
        speed.check()
        job = _made(spec, options, by)
        self.say(f"Job {job.id}: {job.total} items.")
        try:
            return self._go_on(job, options, by, speed)
        except KeyboardInterrupt:
            self.say("")
            self.say(f"Interrupted. {_left(job)}")
            return FAILED

    def _go_on(self, job: Job, options: Options, by: ActionRequest, speed: jobs.Speed) -> int:
        starts = not options["dry_run"]
        if starts and options["yes"]:
            jobs.start(job.id, by, speed, {})
        if options["no_wait"] and (options["yes"] or not starts):
            return self._report(job, options)
        self._wait(job, (JobStatus.CHECKING,) if not starts or not options["yes"] else _WAITED_FOR)
        if starts and not options["yes"]:
            for line in job_report.lines(job):
                self.say(line)
            if not self._consents(job):
                self.say(f"Not started. Start it later: manage.py jobs {job.id} --start --reason ...")
                return FAILED
            jobs.start(job.id, by, speed, {})
            if not options["no_wait"]:
                self._wait(job, _WAITED_FOR)
        return self._report(job, options)

    def _consents(self, job: Job) -> bool:
        """Ask the person at the terminal. A question that cannot be written counts as declined."""
        try:
            self.stderr.write(f"Start with {job.eligible} items? [y/N] ", style_func=str, ending="")
            self.stderr.flush()
        except OSError:
            discard(self.stderr)
            return False
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _wait(self, job: Job, statuses: tuple[str, ...]) -> None:
        """Wait until the job has none of these statuses, and show how far it is."""
        shown = ""
        job.refresh_from_db()
        while job.status in statuses:
            bar = job_report.bar(job)
            if bar != shown:
                self._draw(bar)
                shown = bar
            self.sleep(PAUSE)
            job.refresh_from_db()
        if shown:
            self._draw(job_report.bar(job), ends=True)

    def _draw(self, bar: str, *, ends: bool = False) -> None:
        """Draw the bar on stderr: in place on a terminal, else one line for each change."""
        if not self.stderr.isatty():
            self.say(bar)
            return
        try:
            self.stderr.write(bar.ljust(100), style_func=str, ending="\n" if ends else "\r")
            self.stderr.flush()
        except OSError:
            discard(self.stderr)

    def _report(self, job: Job, options: Options) -> int:
        job.refresh_from_db()
        if options["json"]:
            self.tell_data(job_report.data(job))
        else:
            for line in job_report.lines(job):
                self.tell(line)
        if job.status == JobStatus.APPROVAL:
            self.say("Another person must approve it, in the admin or by the API.")
            return REFUSED
        if job.status in (JobStatus.PAUSED, JobStatus.STOPPED):
            return FAILED
        return FAILED if job.refused or job.failed or (job.not_eligible and job.status == JobStatus.DONE) else DONE


def _left(job: Job) -> str:
    """Say what becomes of a job when nobody waits for it."""
    job.refresh_from_db()
    if job.started_at is None:
        return f"The job was not started, and nothing was changed: manage.py jobs {job.id}"
    return f"The job goes on: manage.py jobs {job.id} (stop it with --stop --reason ...)"


def _made(spec: ActionSpec, options: Options, by: ActionRequest) -> Job:
    values = _values(spec, _pairs(options["set"]))
    if options["where"] or options["all"]:
        if options["ids"]:
            raise UsageError("give either ids or --where")
        return jobs.of_filter(spec, _pairs(options["where"] or []), by, values=values)
    ids = ids_from(options["ids"], "id")
    return jobs.of_ids(spec, saga_ids(ids) if spec.target is Target.SAGA else ids, by, values=values)


def _pairs(given: list[str]) -> dict[str, str]:
    found = dict(text.split("=", 1) for text in given if "=" in text)
    if len(found) != len(given):
        raise UsageError("write NAME=VALUE, each name once")
    return found


def _values(spec: ActionSpec, given: dict[str, str]) -> dict[str, Any]:
    """Return the values of the action's own fields; a saga may be named by its key. Raises UsageError, NotFound."""
    kinds = {own.name: own.kind for own in fields_of(spec)}
    found: dict[str, Any] = {}
    for name, text in given.items():
        if kinds.get(name) is FieldKind.NUMBER:
            if not (text.isascii() and text.isdigit() and len(text) < 10):
                raise UsageError(f"{name} must be a number, such as 36")
            found[name] = int(text)
        else:
            found[name] = str(find_saga(text).id) if kinds.get(name) is FieldKind.SAGA else text
    return found
