"""Check the items of a job: which are eligible, and why the others are not. Nothing is changed by it."""

from __future__ import annotations

import json
from collections import defaultdict

from django.db import transaction
from django.db.models import F

from bridge import clock
from sagas import actions
from sagas.jobs import control, kinds, why
from sagas.jobs.lease import Lease
from sagas.models import Job, JobItem, JobItemStatus, JobStatus

PAGE = 200


def check_page(job: Job, lease: Lease) -> int:
    """Check the next page of items; return how many. After the last one the job is ready, or begins if it was started.

    Opens its own transaction; may run twice.
    """
    unchecked = JobItem.objects.filter(job=job, status=JobItemStatus.UNCHECKED).order_by("tries", "number")
    items = list(unchecked[:PAGE])
    found = _judged(job, items)
    with transaction.atomic(durable=True):
        row = Job.objects.select_for_update().get(id=job.id)
        if row.status != JobStatus.CHECKING or row.runner != lease.runner:
            return 0
        _store(row, found)
        if not unchecked.exists():
            row.refresh_from_db()
            control.checked(row, clock.now())
    return len(items)


def _judged(job: Job, items: list[JobItem]) -> dict[str, list[int]]:
    """Return the ids of items by why they are not eligible, as JSON; empty for those that are."""
    spec = actions.get(job.action)
    views = kinds.of(spec).views(items, job.values) if items else {}
    found: dict[str, list[int]] = defaultdict(list)
    for item in items:
        texts = why.refusal(spec, views.get(item.number))
        found[json.dumps(texts) if texts else ""].append(item.id)
    return found


def _store(job: Job, found: dict[str, list[int]]) -> None:
    counts = {JobItemStatus.ELIGIBLE: 0, JobItemStatus.NOT_ELIGIBLE: 0}
    for text, ids in found.items():
        status = JobItemStatus.NOT_ELIGIBLE if text else JobItemStatus.ELIGIBLE
        fresh = JobItem.objects.filter(id__in=ids, status=JobItemStatus.UNCHECKED)
        counts[status] += fresh.update(status=status, why=json.loads(text) if text else None)
    Job.objects.filter(id=job.id).update(
        eligible=F("eligible") + counts[JobItemStatus.ELIGIBLE],
        not_eligible=F("not_eligible") + counts[JobItemStatus.NOT_ELIGIBLE],
    )
