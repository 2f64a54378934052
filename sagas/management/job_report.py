"""A job as text for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bridge import instants
from sagas import jobs
from sagas.jobs import reading, why
from sagas.management.wording import when
from sagas.models import Job, JobItem, JobStatus

WIDTH = 40


def data(job: Job) -> dict[str, Any]:
    """Return a job as one JSON object."""
    return {
        "id": str(job.id),
        "action": job.action,
        "status": job.status,
        "pause_cause": job.pause_cause,
        **{name: getattr(job, name) for name in ("total", "eligible", "not_eligible")},
        **{name: getattr(job, name) for name in ("done", "already", "refused", "failed", "rate", "canary")},
        "selection": job.selection,
        "values": job.values,
        "reason": job.reason,
        "created_by": job.created_by,
        "actor": job.actor,
        "approved_by": job.approved_by,
        **{name: _time(job, name) for name in ("created_at", "started_at", "approved_at", "finished_at")},
        "possible": [one.value for one in jobs.possible(job)],
    }


def _time(job: Job, name: str) -> str | None:
    moment = getattr(job, name)
    return instants.for_programs(moment) if moment else None


def lines(job: Job) -> Iterator[str]:
    """Return what a person wants to know of a job."""
    yield f"{job.id}  {job.action}  {job.status}" + (f" ({job.pause_cause})" if job.pause_cause else "")
    yield f"  {progress(job)}"
    made = f"  made by {job.created_by} at {when(job.created_at)}"
    yield made + (f", started by {job.actor} at {when(job.started_at)}: {job.reason}" if job.started_at else "")
    for decision in reading.history(job.id):
        yield f"  {decision.action} by {decision.actor} at {when(decision.decided_at)}: {decision.reason}"
    for line in reading.reasons(job):
        yield f"  {line.count} {line.status}: {line.reason}"
    for status, count in reading.commands(job).items():
        yield f"  {count} commands {status}"


def progress(job: Job) -> str:
    """Return the numbers of a job in one line."""
    if job.status == JobStatus.CHECKING:
        return f"{reading.checked(job)} of {job.total} checked"
    parts = [f"{reading.handled(job)} of {job.eligible} eligible", f"{job.done} done"]
    for name in ("already", "refused", "failed", "not_eligible"):
        count = getattr(job, name)
        parts += [f"{count} {name.replace('_', ' ')}"] if count else []
    return ", ".join(parts)


def bar(job: Job) -> str:
    """Return a progress bar with the numbers."""
    part, whole = reading.handled(job), job.eligible
    if job.status == JobStatus.CHECKING:
        part, whole = reading.checked(job), job.total
    filled = WIDTH * part // whole if whole else WIDTH
    return f"[{'#' * filled}{'.' * (WIDTH - filled)}] {job.status}: {progress(job)}"


def item_data(item: JobItem) -> dict[str, Any]:
    """Return an item as one JSON object."""
    return {
        "number": item.number,
        "target": item.target,
        "status": item.status,
        "reason": why.shown(item.why),
        "decision_id": str(item.decision) if item.decision else None,
    }
