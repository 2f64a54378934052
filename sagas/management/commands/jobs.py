"""manage.py jobs: list jobs, show one, and start, pause, resume or stop it."""

from __future__ import annotations

from django.core.management.base import CommandParser

from sagas import jobs
from sagas.actions import ActionRequest, is_blank
from sagas.jobs import reading
from sagas.management import job_report
from sagas.management.cli_base import DONE, OperatorCommand, Options, UsageError
from sagas.management.decision_command import login
from sagas.management.wording import table, when
from sagas.models import EntryPoint, Job, JobItemStatus, JobStatus

_DECISIONS = ("start", "pause", "resume", "stop")


class Command(OperatorCommand):
    help = "List jobs, newest first; with an id show that job, or with --pause, --resume or --stop decide on it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("job", nargs="?", help="the id of a job")
        parser.add_argument("--status", choices=JobStatus.values, help="only jobs with this status")
        parser.add_argument("--limit", type=int, default=20)
        parser.add_argument("--items", choices=JobItemStatus.values, help="also list the job's items of this status")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--start", action="store_true", help="start a job whose items were only checked")
        what.add_argument("--pause", action="store_true", help="pause it after the item that is being carried out")
        what.add_argument("--resume", action="store_true", help="continue a paused job")
        what.add_argument("--stop", action="store_true", help="end it for good; what was carried out stays")
        parser.add_argument("--rate", type=float, help="with --start or --resume: items per second, 0: no limit")
        parser.add_argument("--canary", type=int, help="with --start or --resume: a canary of so many items, 0: none")
        parser.add_argument("--reason", default="", help="required to decide")
        parser.add_argument("--actor", default="", help="who decides (default: cli:LOGIN on this machine)")
        parser.add_argument("--json", action="store_true", help="one JSON object for each job or item")

    def act(self, options: Options) -> int:
        if options["job"] is None:
            return self._list(options)
        job = jobs.get(options["job"])
        chosen = next((name for name in _DECISIONS if options[name]), None)
        if chosen is not None:
            _decide(chosen, job, options)
            job.refresh_from_db()
        self._show(job, options)
        return DONE

    def _list(self, options: Options) -> int:
        if options["limit"] < 1:
            raise UsageError("--limit must be at least 1")
        if any(options[name] for name in (*_DECISIONS, "items")):
            raise UsageError("give the id of a job")
        found = reading.newest()
        found = found.filter(status=options["status"]) if options["status"] else found
        rows = list(found[: options["limit"]])
        if options["json"]:
            for job in rows:
                self.tell_data(job_report.data(job))
            return DONE
        cells = [
            (
                job.id,
                job.action,
                job.status,
                job_report.progress(job),
                job.actor or job.created_by,
                when(job.created_at),
            )
            for job in rows
        ]
        for line in table(("job", "action", "status", "progress", "by", "made"), cells):
            self.tell(line)
        return DONE

    def _show(self, job: Job, options: Options) -> None:
        if options["json"]:
            self.tell_data(job_report.data(job))
        else:
            for line in job_report.lines(job):
                self.tell(line)
        if options["items"]:
            for item in reading.items(job.id).filter(status=options["items"]).iterator():
                found = job_report.item_data(item)
                if options["json"]:
                    self.tell_data(found)
                else:
                    self.tell(f"  {found['number']} {found['target']} {found['status']} {found['reason']}".rstrip())


def _decide(name: str, job: Job, options: Options) -> None:
    if is_blank(options["reason"]):
        raise UsageError("--reason is required")
    by = ActionRequest(actor=options["actor"] or login(), door=EntryPoint.COMMAND.value, reason=options["reason"])
    match name:
        case "start":
            jobs.start(job.id, by, jobs.Speed(rate=options["rate"] or 0.0, canary=options["canary"] or 0), {})
        case "resume":
            jobs.resume(job.id, by, rate=options["rate"], canary=options["canary"])
        case "pause":
            jobs.pause(job.id, by)
        case "stop":
            jobs.stop(job.id, by)
