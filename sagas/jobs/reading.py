"""What is read of jobs: their list, progress, reasons and results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet

from sagas import actions
from sagas.actions import JobAction
from sagas.jobs import canary, why
from sagas.jobs.canary import Canary
from sagas.models import Decision, Job, JobItem, JobItemStatus
from sagas.statements import JOB_COMMANDS

# Of a job with more, the commands are counted only so far.
COUNTED = 20_000
REASONS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonCount:
    """How many items were not carried out for one reason. `status` tells whether at the check or later."""

    status: str
    reason: str
    count: int

    @property
    def status_label(self) -> str:
        return str(JobItemStatus(self.status).label)


def handled(job: Job) -> int:
    """Return how many eligible items have a result."""
    return job.done + job.already + job.refused + job.failed


def checked(job: Job) -> int:
    """Return how many items were checked."""
    return job.eligible + job.not_eligible


def reasons(job: Job) -> list[ReasonCount]:
    """Return why items are not carried out, the most frequent first, in the reader's language. One query."""
    rows = JobItem.objects.filter(job=job, status__in=_NOT_CARRIED_OUT).values("status", "why")
    counted = rows.annotate(count=Count("id")).order_by("-count")[:REASONS]
    return [ReasonCount(status=row["status"], reason=why.shown(row["why"]), count=row["count"]) for row in counted]


def canary_of(job: Job) -> Canary | None:
    """Return where the canary of a job is, if it was started and has one before it."""
    return canary.look(job) if job.started_at is not None and canary.runs(job) else None


def commands(job: Job) -> dict[str, int]:
    """Return the commands that were or will be sent because of a job, by status now, up to COUNTED. One query."""
    return dict(sorted(JOB_COMMANDS.rows([job.id, COUNTED])))


def history(job_id: UUID) -> list[Decision]:
    """Return what people decided on a job itself, the oldest first. One query."""
    found = Decision.objects.filter(job=job_id, action__in=list(JobAction)).defer("answer")
    return list(found.order_by("decided_at"))


def items(job_id: UUID) -> QuerySet[JobItem]:
    """Return the items of a job in their order."""
    return JobItem.objects.filter(job=job_id).order_by("number")


def newest() -> QuerySet[Job]:
    """Return all jobs, the newest first."""
    return Job.objects.order_by("-created_at", "-id")


def label(job: Job) -> str:
    """Return the name of a job's decision."""
    return actions.label_of(job.action)


def choice_of_actions() -> list[tuple[str, Any]]:
    """Return the decisions that a job can take, as choices."""
    return [(spec.name, spec.label) for spec in actions.in_jobs()]


_NOT_CARRIED_OUT = (JobItemStatus.NOT_ELIGIBLE, JobItemStatus.REFUSED, JobItemStatus.FAILED)
