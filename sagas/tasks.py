"""Celery's doors to applying. No arguments: what there is to do is in the database."""

from celery import shared_task
from django.conf import settings

from sagas import apply as applying
from sagas import retention, sweeper


@shared_task(name="sagas.apply")
def apply() -> int:
    """Applies what waits. May run twice, and beside itself."""
    return applying.run_apply(turns=settings.APPLY_TURNS)


@shared_task(name="sagas.sweep")
def sweep() -> None:
    """Finds what a lost nudge left behind. May run twice, and beside itself."""
    sweeper.sweep()


@shared_task(name="sagas.prune")
def prune() -> None:
    """Lets old sagas go for a while, where that is switched on. May run twice, and beside itself."""
    retention.turn()
