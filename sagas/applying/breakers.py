"""Count and judge for the circuit breakers of `compensation`, and write an audit row for each pause."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from django.db import transaction

from compensation import breaker
from compensation.models import Breaker
from sagas import targets
from sagas.models import Decision, EntryPoint

# The decision that an opened breaker is recorded as.
ACTION = "pause_publishing"


def count(planned: Mapping[str, int]) -> None:
    """Count commands that the caller's transaction planned, by service, and pause services with too many.

    Must be the last statement of this transaction: see `compensation.breaker.count`.
    """
    for opened in breaker.count(planned):
        _audit(opened)


def judge_canaries() -> None:
    """Close the breakers whose canary was confirmed, open those whose canary failed.

    Opens its own transactions; may run twice.
    """
    for service in breaker.running_canaries():
        with transaction.atomic(durable=True):
            opened = breaker.judge(service)
            if opened is not None:
                _audit(opened)


def _audit(opened: Breaker) -> None:
    """Write an audit row for the pause, as for a decision of a person."""
    target = targets.sending(opened.service)
    numbers = {"planned": opened.planned, "allowed": opened.allowed}
    Decision.objects.create(
        id=uuid.uuid4(),
        action=ACTION,
        target=target.name,
        target_data=target.stored,
        actor=opened.changed_by,
        door=EntryPoint.SYSTEM.value,
        reason=f"breaker-{opened.cause}",
        decided_at=opened.changed_at,
        answer={"commands": [], "commands_total": 0, "effects": {"breaker": {"cause": opened.cause, **numbers}}},
    )
