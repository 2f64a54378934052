"""Find the work of lost wake-ups in the database, which alone is reliable."""

from __future__ import annotations

from datetime import timedelta

from bridge import clock, readings
from bridge.wakeup import nudge
from sagas.applying import breakers, shared_entities, silence, statements

# A younger event's wake-up may still be pending and needs no second one.
NUDGE_AGE = timedelta(seconds=2)


def sweep() -> None:
    """Do the periodic work: wake workers for events that wait too long, match parked events, check holds and canaries.

    Also ends the intake of sagas that are silent, and keeps the file of the queue's table small. Opens its own
    transactions; may run twice.
    """
    statements.vacuum_queue()
    shared_entities.sweep()
    moved = match_parked()
    if moved or pending_too_long():
        nudge("apply")
    silence.sweep()
    breakers.judge_canaries()


def pending_too_long() -> bool:
    """Return whether the first event of the queue is so old that its wake-up must have been lost."""
    received_at = readings.oldest_received_at()
    return received_at is not None and received_at < clock.now() - NUDGE_AGE


def match_parked() -> int:
    """Requeue those of the next part of parked events whose saga or lane has appeared; return how many."""
    moved, _place.after = statements.unpark_matched(_place.after)
    return moved


class _ParkedPosition:
    """How far this process has searched; a new one begins at the start, so that some rows are only checked twice."""

    after = 0


_place = _ParkedPosition()
