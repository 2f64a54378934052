"""What decisions on many targets have in common: their ids, the name in the audit, the result, a repeated request."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from bridge import clock
from sagas import targets
from sagas.actions import four_eyes
from sagas.actions.action import (
    ActionContext,
    ActionRequest,
    ActionResult,
    CommandPreview,
    as_uuid,
    carry_out,
    check_reason,
)
from sagas.actions.spec import ActionSpec
from sagas.errors import Invalid
from sagas.models import Decision
from sagas.targets import DecisionTarget


def as_ids(ids: Sequence[UUID | str], *, empty: str, malformed: str) -> list[UUID]:
    """Parse ids and drop repeats. empty, malformed: what is said of a list that is. Raises Invalid."""
    if not ids:
        raise Invalid(empty)
    try:
        return list(dict.fromkeys(as_uuid(value) for value in ids))
    except ValueError:
        raise Invalid(malformed) from None


def target_of(ids: Iterable[UUID | str], what: str) -> DecisionTarget:
    """Return a selection as a target. what: "commands" or "sagas"."""
    found = sorted({str(value).lower() for value in ids})
    # The mark tells this selection from every other, also under a request key.
    mark = hashlib.sha256(" ".join(found).encode()).hexdigest()[:12]
    return DecisionTarget(what, {"count": len(found), "mark": mark})


def begin(spec: ActionSpec, target: DecisionTarget, request: ActionRequest, count: int) -> ActionResult | None:
    """Check the reason; return the result of the same request if it was completed.

    Checked first, as the work may take long. count: of targets. Raises Invalid; Refused if so many need a second
    person.
    """
    if request.dry_run:
        return None
    check_reason(request.reason)
    four_eyes.check(request, count)
    if not request.idempotency_key:
        return None
    known = Decision.objects.filter(actor=request.actor, request_key=request.idempotency_key).exists()
    return carry_out(spec.name, target, request, _never) if known else None


def result(
    spec: ActionSpec, request: ActionRequest, commands: Sequence[CommandPreview], effects: Mapping[str, Any]
) -> ActionResult:
    """Return what the decisions on all targets did together."""
    return ActionResult(
        action=spec.name,
        target=targets.stored("", None),
        actor=request.actor,
        accepted_at=clock.now(),
        commands=commands,
        effects=effects,
        dry_run=request.dry_run,
    )


def remember(spec: ActionSpec, total: ActionResult, target: DecisionTarget, request: ActionRequest) -> ActionResult:
    """Write the audit row of the decision on many itself, in addition to those of its sagas."""

    def work(context: ActionContext) -> None:
        context.commands += total.commands
        context.effects |= total.effects

    return carry_out(spec.name, target, request, work)


def not_eligible(identity: UUID, code: str, reason: str, **more: str) -> dict[str, Any]:
    """Describe a target that is left out. code: refused or not_found."""
    return {"id": str(identity), **more, "code": code, "reason": reason}


def _never(context: ActionContext) -> None:
    raise AssertionError("the earlier decision answers")
