"""Carry out jobs: a page of items at a time, by whichever process has the lease of the job.

Each item is an ordinary decision in a transaction of its own, whose request key names the job and the item. A process
that dies loses only what it had not noted: the next one carries these items out again, and each is answered as it was
before. The results of a page are noted in one transaction.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from django.db.models import F
from django.utils.translation import gettext as _

from bridge import clock
from bridge.wakeup import nudge
from compensation.models import UNSENT
from sagas import actions
from sagas.actions import ActionRequest, ActionResult
from sagas.applying.fold import error_location
from sagas.errors import Busy, DecisionError, NotFound
from sagas.jobs import canary, check, kinds, lease, why
from sagas.jobs.lease import Lease
from sagas.models import Decision, Job, JobItem, JobItemStatus, JobStatus, PauseCause

logger = logging.getLogger(__name__)

# Items whose results are noted together.
PAGE = 20
# An item that others have locked so often is given up.
MOST_TRIES = 10
# What was not used of the rate in this time is lost, so that a pause of the workers is not followed by a burst.
BURST = timedelta(seconds=5)
_COUNTERS = {
    JobItemStatus.DONE: "done",
    JobItemStatus.ALREADY: "already",
    JobItemStatus.REFUSED: "refused",
    JobItemStatus.FAILED: "failed",
}
_STOP_A_CANARY = (JobItemStatus.REFUSED, JobItemStatus.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """What became of one item. `status` is ELIGIBLE if it is to be tried again."""

    item: JobItem
    status: JobItemStatus
    why: why.Texts | None = None
    decision: UUID | None = None
    commands: Sequence[UUID] = ()


def run_jobs(seconds: float | None = None) -> int:
    """Work on the jobs that nobody works on; return how many items were checked or carried out.

    seconds: after which it ends and wakes the next task. Opens its own transactions; may run twice, and concurrently.
    """
    left = settings.APPLY_SECONDS if seconds is None else seconds
    waiting = list(
        lease.free().order_by(F("paced_at").asc(nulls_first=True), "created_at").values_list("id", flat=True)
    )
    until, total, is_done = time.monotonic() + left, 0, True
    for number, job_id in enumerate(waiting):
        held = lease.acquire(job_id)
        if held is None:
            continue
        # The time that is left is for all the jobs that are left.
        share = max(0.0, until - time.monotonic()) / (len(waiting) - number)
        try:
            moved, has_more = _work(held, time.monotonic() + share)
        finally:
            with suppress(DatabaseError, InterfaceError):  # it then expires
                held.release()
        total, is_done = total + moved, is_done and not has_more
    if not is_done:
        nudge("jobs")
    return total


def _work(held: Lease, until: float) -> tuple[int, bool]:
    """Work on one job until a time of the monotonic clock; return how many items, and whether more is due now."""
    total = 0
    while True:
        job = Job.objects.get(id=held.job)
        if job.status not in lease.AT_WORK:
            return total, False
        if not held.keep(job.status):
            return total, True
        moved = check.check_page(job, held) if job.status == JobStatus.CHECKING else _run_page(job, held, until)
        total += moved
        if not moved and Job.objects.filter(id=job.id, status=job.status).exists():
            return total, False
        if time.monotonic() >= until:
            return total, True


def _run_page(job: Job, held: Lease, until: float) -> int:
    """Carry out the next items as far as rate and canary allow; return how many were handled."""
    in_canary = canary.runs(job)
    most = min(PAGE, _allowed(job, clock.now()))
    if in_canary:
        state = canary.look(job)
        if state.failed:
            _pause(job, PauseCause.CANARY_UNCONFIRMED)
            return 0
        if not state.room and not state.waiting:
            in_canary = False
            Job.objects.filter(id=job.id, canary_passed_at=None).update(canary_passed_at=clock.now())
        else:
            most = min(most, state.room)
    items = _next(job, most)
    if items:
        return _carry_out(job, held, items, until, in_canary=in_canary)
    if not _next(job, 1) and not (in_canary and state.waiting):
        Job.objects.filter(id=job.id, status=JobStatus.RUNNING).update(status=JobStatus.DONE, finished_at=clock.now())
    return 0


def _next(job: Job, most: int) -> list[JobItem]:
    return list(JobItem.objects.filter(job=job, status=JobItemStatus.ELIGIBLE).order_by("tries", "number")[:most])


def _allowed(job: Job, now: datetime) -> int:
    """Return how many items the rate allows now. A rate below one in five seconds needs longer than BURST for one."""
    if not job.rate:
        return PAGE
    unused = now - (job.paced_at or now)
    return int(min(unused.total_seconds(), max(BURST.total_seconds(), 1 / job.rate)) * job.rate + 1e-6)


def _paced(job: Job, now: datetime, count: int) -> datetime:
    """Return up to when the rate is used after so many more items."""
    if not job.rate:
        return now
    longest = max(BURST, timedelta(seconds=1 / job.rate))
    return max(job.paced_at or now, now - longest) + timedelta(seconds=count / job.rate)


def _carry_out(job: Job, held: Lease, items: Sequence[JobItem], until: float, *, in_canary: bool) -> int:
    results: list[ItemResult] = []
    try:
        for item in items:
            # Between two items a pause, a stop, or the loss of the lease takes effect.
            if not held.keep(JobStatus.RUNNING):
                break
            results.append(carry_out_item(job, item))
            if time.monotonic() >= until or (in_canary and results[-1].status in _STOP_A_CANARY):
                break
    finally:
        if results:
            note(job, results, in_canary=in_canary)
    return len(results)


def carry_out_item(job: Job, item: JobItem) -> ItemResult:
    """Carry out the decision on one item, exactly once however often this is called. Opens its own transaction."""
    spec = actions.get(job.action)
    kind = kinds.of(spec)
    request = ActionRequest(
        actor=job.actor,
        door=job.door,
        reason=job.reason,
        idempotency_key=f"job:{job.id}:{item.number}",
        job=job.id,
    )
    try:
        outcome = spec.decide({**job.values, **item.values, **kind.target(item)}, request)
    except Busy:
        return _again(item)
    except DecisionError as error:
        return ItemResult(item=item, status=JobItemStatus.REFUSED, why=_refusal(job, item, error))
    except OperationalError:
        if not connection.is_usable():
            raise
        # A deadlock, or a statement that took too long: of this item, which must not stop the others.
        return _again(item)
    except (InterfaceError, SoftTimeLimitExceeded):
        raise
    except Exception as error:
        place = error_location(error)
        logger.error("an item of a job failed: %s", place, extra={"job": str(job.id), "item": item.number})
        text = why.in_each_language(lambda: _("an error of the service: %(place)s") % {"place": place})
        return ItemResult(item=item, status=JobItemStatus.FAILED, why=text)
    return _result(job, item, outcome)


def _again(item: JobItem) -> ItemResult:
    """Leave an item for later, after the others; refuse it if that was tried too often."""
    if item.tries + 1 < MOST_TRIES:
        return ItemResult(item=item, status=JobItemStatus.ELIGIBLE)
    text = why.in_each_language(lambda: _("another process kept it locked"))
    return ItemResult(item=item, status=JobItemStatus.REFUSED, why=text)


def _result(job: Job, item: JobItem, outcome: ActionResult) -> ItemResult:
    """Return the result of a decision. One that was made before may be this job's, before its process died."""
    is_ours = not outcome.repeated or Decision.objects.filter(pk__in=[outcome.decision_id], job=job.id).exists()
    sent = [command.id for command in outcome.commands if command.status_after in UNSENT and not command.held_by]
    return ItemResult(
        item=item,
        status=JobItemStatus.DONE if is_ours else JobItemStatus.ALREADY,
        decision=outcome.decision_id,
        commands=sent if is_ours else (),
    )


def _refusal(job: Job, item: JobItem, error: DecisionError) -> why.Texts:
    """Return why an item was refused, in each language if the stored state tells, else as it was said."""
    if isinstance(error, NotFound):
        return why.gone()
    spec = actions.get(job.action)
    view = kinds.of(spec).views([item], job.values).get(item.number)
    texts = why.refusal(spec, view) if view is not None else None
    return texts or {settings.LANGUAGE_CODE: str(error)}


def note(job: Job, results: Sequence[ItemResult], *, in_canary: bool = False) -> None:
    """Note the results of a page. One that another process noted already is not counted. Opens its own transaction."""
    with transaction.atomic(durable=True):
        row = Job.objects.select_for_update().get(id=job.id)
        now = clock.now()
        counts: Counter[str] = Counter()
        for result in results:
            fresh = JobItem.objects.filter(id=result.item.id, status=JobItemStatus.ELIGIBLE)
            if result.status == JobItemStatus.ELIGIBLE:
                fresh.update(tries=F("tries") + 1)
                continue
            counts[_COUNTERS[result.status]] += fresh.update(
                status=result.status,
                why=result.why,
                decision=result.decision,
                decided_at=now,
                commands=list(result.commands),
                in_canary=in_canary and result.status == JobItemStatus.DONE,
            )
        changes = {name: F(name) + count for name, count in counts.items()}
        Job.objects.filter(id=job.id).update(**changes, paced_at=_paced(row, now, len(results)))
    if in_canary and any(result.status in _STOP_A_CANARY for result in results):
        _pause(job, PauseCause.CANARY_REFUSED)


def _pause(job: Job, cause: PauseCause) -> None:
    """Pause a job whose canary failed, until a person has looked."""
    paused = Job.objects.filter(id=job.id, status=JobStatus.RUNNING).update(
        status=JobStatus.PAUSED, pause_cause=cause, changed_at=clock.now(), changed_by=""
    )
    if paused:
        logger.warning("the canary of a job failed (%s)", cause, extra={"job": str(job.id)})
