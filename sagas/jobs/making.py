"""Make a job: its list of items is fixed in one transaction. What matches later is not included."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from bridge import clock
from bridge.sql import dump
from bridge.wakeup import nudge_on_commit
from sagas.actions import ActionRequest, ActionSpec
from sagas.errors import Invalid
from sagas.jobs import kinds
from sagas.jobs import values as own_values
from sagas.jobs.kinds import NewItem
from sagas.models import Job
from sagas.statements import INSERT_JOB_ITEMS, job_item_columns

# The most items of one job.
MOST_ITEMS = 100_000


def of_ids(spec: ActionSpec, ids: Sequence[str], request: ActionRequest, **more: Any) -> Job:
    """Make a job of items by their ids, each once. Raises Invalid for a malformed one. As `make`."""
    kind = kinds.of(spec)
    found = {item.target: item for item in map(kind.named, ids)}
    return make(spec, found.values(), request, selection={"ids": len(found)}, **more)


def of_filter(spec: ActionSpec, filters: Mapping[str, Any], request: ActionRequest, **more: Any) -> Job:
    """Make a job of all items that match filters now. Raises Invalid for a wrong filter. As `make`."""
    rows = kinds.of(spec).matching(filters)
    given = {name: str(value) for name, value in filters.items()}
    return of_rows(spec, rows, request, selection={"filter": given}, **more)


def of_rows(
    spec: ActionSpec, rows: QuerySet[Any], request: ActionRequest, *, selection: Mapping[str, Any], **more: Any
) -> Job:
    """Make a job of the rows of a list. As `make`."""
    items = kinds.of(spec).items(rows, MOST_ITEMS + 1)
    return make(spec, items, request, selection=selection, **more)


def make(
    spec: ActionSpec,
    items: Iterable[NewItem],
    request: ActionRequest,
    *,
    selection: Mapping[str, Any],
    values: Mapping[str, Any] | None = None,
) -> Job:
    """Store a job with its items and let them be checked; return it, or that of the same request before.

    selection: how the items were chosen, for people. Opens its own transaction. Raises Invalid.
    """
    known = _earlier(request)
    if known is not None:
        return known
    new = list(items)
    if not new:
        raise Invalid(_("nothing matches: a job needs at least one item"))
    if len(new) > MOST_ITEMS:
        raise Invalid(_("more than %(most)d items: narrow the selection") % {"most": MOST_ITEMS})
    job = Job(
        id=uuid.uuid4(),
        action=spec.name,
        values=own_values.checked(spec, values or {}) | ({spec.only_with: True} if spec.only_with else {}),
        selection=dict(selection),
        total=len(new),
        created_at=clock.now(),
        created_by=request.actor,
        door=request.door,
        request_key=request.idempotency_key,
    )
    try:
        with transaction.atomic(durable=True):
            job.save(force_insert=True)
            _insert(job, new)
            nudge_on_commit("jobs")
    except IntegrityError:  # the same request, at the same moment
        known = _earlier(request)
        if known is None:
            raise
        return known
    return job


def _earlier(request: ActionRequest) -> Job | None:
    if not request.idempotency_key:
        return None
    return Job.objects.filter(created_by=request.actor, request_key=request.idempotency_key).first()


def _insert(job: Job, items: Sequence[NewItem]) -> None:
    rows = [{"number": n, "target": item.target, "values": dict(item.values)} for n, item in enumerate(items, start=1)]
    INSERT_JOB_ITEMS.run([job.id, *dump(job_item_columns(), rows)])
