"""What no nudge may be trusted with: the database alone tells what still waits."""

from __future__ import annotations

from datetime import timedelta

from django.db.models.functions import Now

from bridge.models import Event, Pending
from bridge.wakeup import nudge
from sagas import breakers, shared_entities, statements

# A nudge that is on its way needs no second one.
NUDGE_AGE = timedelta(seconds=2)


def sweep() -> None:
    """Nudges for events that wait too long, matches parked events and holds again, keeps the queue's file small, and
    moves circuit breakers on whose first commands were answered.

    Own transactions; may run twice.
    """
    statements.vacuum_queue()
    shared_entities.sweep()
    moved = match_parked()
    if moved or pending_too_long():
        nudge("apply")
    breakers.judge_canaries()


def pending_too_long() -> bool:
    """Whether the first of the queue came in long enough ago that its nudge must be lost."""
    first = Pending.objects.order_by("id").values_list("id", flat=True).first()
    if first is None:
        return False
    return Event.objects.filter(id=first, received_at__lt=Now() - NUDGE_AGE).exists()


def match_parked() -> int:
    """Looks at the next part of the car park for events whose saga, lane or owner has appeared; returns how many go."""
    moved, _place.after = statements.unpark_matched(_place.after)
    return moved


class _Place:
    """How far this process has looked; a new one begins at the start, which only means to look twice."""

    after = 0


_place = _Place()
