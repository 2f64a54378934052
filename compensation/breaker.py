"""The circuit breaker: one message must not cause thousands of compensations that no person has reviewed.

Each planning transaction adds the number of commands that it planned to a counter row for each service and minute. If
the sum of ten minutes exceeds SAGA_BREAKER_COMMANDS, the service is paused in that same transaction, so that none of
these commands is sent. A person resumes it; then only a canary is sent, the first ten commands, and the others follow
when the service has confirmed these.

Guarantee: the planners of one service are serialized from `count` to their commit (an advisory lock for each service,
always taken in the same order), so each sees everything that was counted before it. Of any number of concurrent
transactions, the one whose commands make the sum exceed the limit is the one that pauses. `count` comes last in its
transaction, so the others only wait for a commit. Minutes are those of the database's clock; the window is the current
minute and the nine before it.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Max, QuerySet
from django.db.models.functions import Now

from bridge import wakeup
from compensation import queries, statements, switches
from compensation.models import (
    Attempt,
    AttemptOutcome,
    Breaker,
    BreakerState,
    Command,
    CommandStatus,
    ConfirmationKind,
    PlannedMinute,
    TripCause,
)

logger = logging.getLogger(__name__)

SYSTEM = "system"
CANARY = 10
MINUTES = 10
# The first of the two keys of these advisory locks. Routing keys use locks of one key, which cannot collide with them.
_LOCKS = 9_001
_FAILURES = {AttemptOutcome.REFUSED: TripCause.REFUSED, AttemptOutcome.DEADLINE: TripCause.DEADLINE}


def count(planned: Mapping[str, int]) -> list[Breaker]:
    """Count commands that were planned now, by service; pause each service that exceeds the limit with them.

    Call it once, last in the planning transaction. Returns the breakers that opened.
    """
    limit = settings.SAGA_BREAKER_COMMANDS
    if not limit or not planned:
        return []
    _lock(planned)
    exceeded = {service: total for service, total in _add(planned).items() if total > limit}
    already = _in_state(BreakerState.OPEN).filter(service__in=exceeded).values_list("service", flat=True)
    return [
        _open(service, TripCause.PLANNED, planned=exceeded[service], allowed=limit)
        for service in sorted(set(exceeded) - set(already))
    ]


def resume(service: str, actor: str, reason: str) -> Breaker | None:
    """Start a new window and send the canary; return the breaker, or None if it was not open.

    Runs in the caller's transaction; may run twice.
    """
    _lock([service])
    if not _in_state(BreakerState.OPEN).filter(service=service).exists():
        return None
    PlannedMinute.objects.filter(service=service).delete()
    breaker = _change(service, state=BreakerState.CANARY, changed_by=actor, reason=reason, canary=[])
    return _choose_canary(breaker)


def running_canaries() -> list[str]:
    """Return the services whose canary is running, sorted."""
    return list(_in_state(BreakerState.CANARY).order_by("service").values_list("service", flat=True))


def judge(service: str) -> Breaker | None:
    """Judge the running canary of a service; return its breaker if it opened again.

    One refusal, missed deadline or exhausted command opens it. It closes when no command of the canary is in flight any
    more and the service has confirmed at least one that was sent. Commands that were withdrawn, skipped, marked as done
    or deleted, that may not be sent any more, or that were confirmed before they were sent (any producer could write
    that) do not count; if the canary had no others, the next ten are chosen.
    Runs in the caller's transaction; may run twice.
    """
    _lock([service])
    breaker = _in_state(BreakerState.CANARY).filter(service=service).first()
    if breaker is None:
        return None
    failure = _failure(breaker)
    if failure is not None:
        return _open(service, failure, planned=breaker.planned, allowed=breaker.allowed)
    members = Command.objects.filter(id__in=breaker.canary)
    in_flight = members.filter(status__in=(CommandStatus.PUBLISHING, CommandStatus.PUBLISHED))
    if in_flight.exists() or queries.released().filter(id__in=breaker.canary).exists():
        return None
    if members.filter(status=CommandStatus.CONFIRMED, by_hand=False, confirmed_unsent_at=None).exists():
        _close(breaker)
    else:
        _choose_canary(breaker)
    return None


def _choose_canary(breaker: Breaker) -> Breaker:
    """Choose the first ten due commands; close if none is released; wait if none is due or a switch pauses."""
    all_switches = switches.read()
    if all_switches.is_switched_off(breaker.service):
        return breaker
    waiting = queries.released().filter(service=breaker.service, confirmation=ConfirmationKind.EVENT)
    chosen = list(waiting.filter(next_at__lte=Now()).order_by("next_at", "id").values_list("id", flat=True)[:CANARY])
    if chosen:
        last = Attempt.objects.filter(command__in=chosen).aggregate(last=Max("id"))["last"]
        wakeup.nudge_on_commit("publish")
        return _change(breaker.service, canary=chosen, canary_after=last or 0)
    return breaker if waiting.exists() else _close(breaker)


def _failure(breaker: Breaker) -> TripCause | None:
    attempts = Attempt.objects.filter(command__in=breaker.canary, id__gt=breaker.canary_after, outcome__in=_FAILURES)
    outcome = attempts.order_by("id").values_list("outcome", flat=True).first()
    if outcome is not None:
        return _FAILURES[AttemptOutcome(outcome)]
    exhausted = Command.objects.filter(id__in=breaker.canary, status=CommandStatus.EXHAUSTED)
    return TripCause.EXHAUSTED if exhausted.exists() else None


def _open(service: str, cause: TripCause, *, planned: int, allowed: int) -> Breaker:
    logger.warning(
        "the circuit breaker paused %s (%s): %d commands planned, the limit is %d", service, cause, planned, allowed
    )
    return _change(
        service,
        state=BreakerState.OPEN,
        changed_by=SYSTEM,
        reason="",
        cause=cause,
        planned=planned,
        allowed=allowed,
        canary=[],
    )


def _close(breaker: Breaker) -> Breaker:
    logger.info("the circuit breaker of %s is closed", breaker.service)
    wakeup.nudge_on_commit("publish")
    return _change(breaker.service, state=BreakerState.CLOSED, canary=[])


def _change(service: str, **fields: Any) -> Breaker:
    """Store a breaker whose service is locked. `changed_at` is set only if its state changes."""
    if "state" in fields:
        fields["changed_at"] = Now()
    Breaker.objects.update_or_create(service=service, defaults=fields)
    return Breaker.objects.get(service=service)


def _in_state(state: BreakerState) -> QuerySet[Breaker]:
    return Breaker.objects.filter(state=state)


def _lock(services: Iterable[str]) -> None:
    """Lock the breakers and counters of these services until the transaction ends. Waits for other holders."""
    statements.LOCK_SERVICES.rows([_LOCKS, sorted(services)])


def _add(planned: Mapping[str, int]) -> dict[str, int]:
    """Add to the current minute of locked services and delete expired minutes; return the sum of each one's window.

    It is a separate statement after the lock, so its snapshot contains what the last holder of the lock committed.
    """
    names, window = list(planned), timedelta(minutes=MINUTES)
    values = {"services": names, "commands": list(planned.values()), "window": window}
    return dict(statements.COUNT_PLANNED.rows(values))
