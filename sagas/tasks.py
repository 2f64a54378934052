"""Celery tasks for applying, sweeping and pruning. They take no arguments: the work is found in the database."""

from celery import shared_task
from django.conf import settings

from sagas import incidents, jobs, retention
from sagas.applying import apply as applying
from sagas.applying import sweeper


@shared_task(name="sagas.apply")
def apply() -> int:
    """Apply waiting events; return how many. May run twice, and concurrently."""
    return applying.run_apply(slots=settings.APPLY_TURNS)


@shared_task(name="sagas.sweep")
def sweep() -> None:
    """Find the work of lost wake-ups. May run twice, and concurrently."""
    sweeper.sweep()


@shared_task(name="sagas.incidents")
def record_incidents() -> None:
    """Record which incidents there are. May run twice, and concurrently."""
    incidents.record()


@shared_task(name="sagas.prune")
def prune() -> None:
    """Delete old sagas for a few seconds, if retention is enabled. May run twice, and concurrently."""
    retention.run_prune()


@shared_task(name="sagas.run_jobs")
def run_jobs() -> int:
    """Carry out jobs for some seconds; return how many items. May run twice, and concurrently."""
    return jobs.run_jobs()
