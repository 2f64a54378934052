"""The lease of a job: one process works on it, until it says that it is done, or is silent for too long."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from sagas.models import Job, JobStatus

# Longer than any single item takes. A process that was killed is replaced after this time.
LEASE = timedelta(seconds=60)
AT_WORK = (JobStatus.CHECKING, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease of one job, held by this process."""

    job: UUID
    runner: str = field(default_factory=lambda: str(uuid.uuid4()))

    def keep(self, status: str) -> bool:
        """Extend the lease; return False if it was lost, or the job has no longer this status.

        This is how a pause takes effect between two items.
        """
        mine = Job.objects.filter(id=self.job, runner=self.runner, status=status)
        return mine.update(lease_until=Now() + LEASE) == 1

    def release(self) -> None:
        """Give the job back, so that the next process need not wait."""
        Job.objects.filter(id=self.job, runner=self.runner).update(runner="", lease_until=None)


def free() -> QuerySet[Job]:
    """Return the jobs that have work and nobody who works on them."""
    return Job.objects.filter(status__in=AT_WORK).filter(Q(lease_until=None) | Q(lease_until__lt=Now()))


def acquire(job: UUID) -> Lease | None:
    """Take the lease of a job, or return None if another process has it. One guarded update decides."""
    lease = Lease(job)
    taken = free().filter(id=job).update(runner=lease.runner, lease_until=Now() + LEASE)
    return lease if taken else None
