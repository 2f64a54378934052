"""The canary of a job: its first items, whose commands must be confirmed before the others follow.

An item without commands that a service confirms counts as soon as it is carried out. A command that only a person can
confirm, that is held for a person, or that a person gave up since, is not waited for.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from django.db.models import Q

from compensation.models import GIVEN_UP, Attempt, AttemptOutcome, Command, CommandStatus, ConfirmationKind
from sagas.models import Job, JobItem, JobItemStatus

_FAILURES = (AttemptOutcome.REFUSED, AttemptOutcome.DEADLINE)
_SETTLED = (CommandStatus.CONFIRMED, CommandStatus.NOT_REQUIRED, *GIVEN_UP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Where a canary is: how many items are to be carried out, how many were, how many of their commands are open."""

    size: int
    carried_out: int
    waiting: int
    failed: bool

    @property
    def room(self) -> int:
        """How many more items it takes."""
        return max(0, self.size - self.carried_out)


def runs(job: Job) -> bool:
    """Return whether a job still has a canary before it."""
    return job.canary > 0 and job.canary_passed_at is None


def look(job: Job) -> Canary:
    """Return where the canary of a job is. Three queries."""
    found = JobItem.objects.filter(job=job, in_canary=True, status=JobItemStatus.DONE)
    lists = list(found.values_list("commands", flat=True))
    ids = list(chain.from_iterable(lists))
    watched = Command.objects.filter(id__in=ids).exclude(confirmation=ConfirmationKind.MANUAL)
    open_ = watched.exclude(Q(status__in=_SETTLED) | Q(held_since__isnull=False))
    # A refused attempt may be followed by another one, so the command's status alone does not tell.
    attempts = Attempt.objects.filter(command__in=ids, id__gt=job.canary_after, outcome__in=_FAILURES)
    failed = attempts.exists() or open_.filter(status=CommandStatus.EXHAUSTED).exists()
    return Canary(size=job.canary, carried_out=len(lists), waiting=open_.count(), failed=failed)
