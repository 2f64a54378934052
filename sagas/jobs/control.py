"""What people decide on a job: start, approve, pause, resume, stop. Each is a decision in the audit.

Transitions: checking -> ready to start -> (waits for approval) -> running <-> paused -> done. A job that is not done
can be stopped; what was carried out stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Max
from django.utils.translation import gettext as _

from bridge.wakeup import nudge_on_commit
from compensation.models import Attempt
from sagas import actions, targets
from sagas.actions import ActionRequest, ActionResult, JobAction, four_eyes
from sagas.actions.action import ActionContext, as_uuid, carry_out
from sagas.errors import Invalid, NotFound, Refused
from sagas.jobs import values as own_values
from sagas.models import EntryPoint, Job, JobItem, JobStatus, PauseCause

MOST_RATE = 1000.0
ENDED = (JobStatus.DONE, JobStatus.STOPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast a job goes: items per second (0: as fast as possible), and how many are carried out first."""

    rate: float = 0.0
    canary: int = 0

    def check(self) -> None:
        """Raise Invalid for a rate or a canary that cannot be."""
        if not (math.isfinite(self.rate) and 0 <= self.rate <= MOST_RATE):
            raise Invalid(_("the rate must be from 0 to %(most)d items per second") % {"most": MOST_RATE})
        if self.canary < 0 or self.canary >= 2**31:
            raise Invalid(_("the canary must be a number of items"))


def get(job_id: UUID | str) -> Job:
    """Return a job. Raises NotFound."""
    try:
        return Job.objects.get(id=as_uuid(job_id))
    except (Job.DoesNotExist, ValueError):
        raise NotFound(_("there is no job %(id)s") % {"id": job_id}) from None


def start(job_id: UUID | str, request: ActionRequest, speed: Speed, values: Mapping[str, Any]) -> ActionResult:
    """Start a job with a reason: whoever does is the actor of all its decisions.

    values: of the decision's own fields. If items are still being checked, it begins after that. Opens its own
    transaction. Raises NotFound, Invalid, Refused.
    """
    speed.check()

    def work(job: Job, now: datetime) -> None:
        if job.started_at is not None or job.status not in (JobStatus.CHECKING, JobStatus.PREPARED):
            raise Refused(_("the job was already started"))
        job.values = {**job.values, **own_values.checked(actions.get(job.action), values)}
        own_values.need_required(actions.get(job.action), job.values, job)
        job.rate, job.canary = speed.rate, speed.canary
        job.actor, job.door, job.reason, job.started_at = request.actor, request.door, request.reason, now
        job.save(update_fields=["values", "rate", "canary", "actor", "door", "reason", "started_at"])
        if job.status == JobStatus.PREPARED:
            begin(job, now)

    return _decide(JobAction.START, job_id, request, work)


def approve(job_id: UUID | str, request: ActionRequest) -> ActionResult:
    """Approve a job of another person, which then runs. Opens its own transaction. Raises NotFound, Invalid, Refused.

    The command line knows no logins: whoever may open a shell could approve under any name.
    """
    if request.door == EntryPoint.COMMAND:
        raise Refused(_("a job can only be approved with a login: in the admin or by the API"))

    def work(job: Job, now: datetime) -> None:
        if job.status != JobStatus.APPROVAL:
            raise Refused(_("the job does not wait for approval"))
        if request.actor.casefold() in (job.actor.casefold(), job.created_by.casefold()):
            raise Refused(_("another person must approve it: you made or started this job"))
        job.approved_by, job.approved_at = request.actor, now
        job.save(update_fields=["approved_by", "approved_at"])
        _run(job, now)

    return _decide(JobAction.APPROVE, job_id, request, work)


def pause(job_id: UUID | str, request: ActionRequest) -> ActionResult:
    """Pause a running job after the item that is being carried out now.

    Opens its own transaction. Raises NotFound, Invalid, Refused.
    """

    def work(job: Job, now: datetime) -> None:
        if job.status != JobStatus.RUNNING:
            raise Refused(_not_running(job))
        job.status, job.pause_cause = JobStatus.PAUSED, PauseCause.PERSON
        _note_change(job, request, now, "status", "pause_cause")

    return _decide(JobAction.PAUSE, job_id, request, work)


def resume(
    job_id: UUID | str, request: ActionRequest, *, rate: float | None = None, canary: int | None = None
) -> ActionResult:
    """Resume a paused job, perhaps with another rate or canary. After a canary that failed, a new one begins.

    Opens its own transaction. Raises NotFound, Invalid, Refused.
    """

    def work(job: Job, now: datetime) -> None:
        if job.status != JobStatus.PAUSED:
            raise Refused(_("the job is not paused"))
        speed = Speed(rate=job.rate if rate is None else rate, canary=job.canary if canary is None else canary)
        speed.check()
        if job.pause_cause != PauseCause.PERSON or canary is not None:
            JobItem.objects.filter(job=job, in_canary=True).update(in_canary=False)
            job.canary_passed_at = None
        job.rate, job.canary = speed.rate, speed.canary
        _note_change(job, request, now, "rate", "canary", "canary_passed_at")
        _run(job, now)

    return _decide(JobAction.RESUME, job_id, request, work)


def stop(job_id: UUID | str, request: ActionRequest) -> ActionResult:
    """End a job for good. What was carried out stays; the rest is not carried out.

    Opens its own transaction. Raises NotFound, Invalid, Refused.
    """

    def work(job: Job, now: datetime) -> None:
        if job.status in ENDED:
            raise Refused(_("the job has already ended"))
        job.status, job.finished_at = JobStatus.STOPPED, now
        _note_change(job, request, now, "status", "finished_at")

    return _decide(JobAction.STOP, job_id, request, work)


def possible(job: Job) -> list[JobAction]:
    """Return what can be decided on a job now."""
    found = {
        JobStatus.CHECKING: [] if job.started_at else [JobAction.START],
        JobStatus.PREPARED: [JobAction.START],
        JobStatus.APPROVAL: [JobAction.APPROVE],
        JobStatus.RUNNING: [JobAction.PAUSE],
        JobStatus.PAUSED: [JobAction.RESUME],
    }.get(JobStatus(job.status), [])
    return [*found, *([] if job.status in ENDED else [JobAction.STOP])]


def checked(job: Job, now: datetime) -> None:
    """Note that all items of a job are checked; if it was started, it begins. In the caller's transaction."""
    job.status = JobStatus.PREPARED
    job.save(update_fields=["status"])
    if job.started_at is not None:
        begin(job, now)


def begin(job: Job, now: datetime) -> None:
    """Let a job that is checked and started run, or wait for approval. In the caller's transaction."""
    if needs_approval(job):
        job.status = JobStatus.APPROVAL
        job.save(update_fields=["status"])
    else:
        _run(job, now)


def needs_approval(job: Job) -> bool:
    """Return whether a second person must approve a job."""
    return four_eyes.is_required(job.total, second_person=actions.get(job.action).second_person)


def _run(job: Job, now: datetime) -> None:
    job.status, job.pause_cause = JobStatus.RUNNING, PauseCause.NONE
    # The first item is due at once; a pause earns none.
    job.paced_at = now - timedelta(seconds=1 / job.rate) if job.rate else now
    names = ["status", "pause_cause", "paced_at"]
    if job.canary and job.canary_passed_at is None and not JobItem.objects.filter(job=job, in_canary=True).exists():
        job.canary_after = Attempt.objects.aggregate(last=Max("id"))["last"] or 0
        names.append("canary_after")
    job.save(update_fields=names)
    nudge_on_commit("jobs")


def _note_change(job: Job, request: ActionRequest, now: datetime, *names: str) -> None:
    job.changed_by, job.changed_at = request.actor, now
    job.save(update_fields=["changed_by", "changed_at", *names])


def _decide(
    action: JobAction, job_id: UUID | str, request: ActionRequest, work: Callable[[Job, datetime], None]
) -> ActionResult:
    """Carry out a decision on a job whose row is locked, and write it to the audit."""
    identity = get(job_id).id

    def locked(context: ActionContext) -> None:
        job = Job.objects.select_for_update().get(id=identity)
        before = job.status
        work(job, context.now)
        context.effects |= {"job_status_before": before, "job_status_after": job.status}

    return carry_out(action, targets.of_job(identity), replace(request, job=identity), locked)


def _not_running(job: Job) -> str:
    return _("the job is not running: %(status)s") % {"status": job.get_status_display()}
