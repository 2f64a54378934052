"""The decision to replay a saga: fold its log again and show the differences; write them only with `apply`."""

from __future__ import annotations

from uuid import UUID

from django.utils.translation import gettext as _

from sagas.actions.action import (
    ActionContext,
    ActionRequest,
    ActionResult,
    carry_out,
    previewed,
    routing_key,
    saga_row,
)
from sagas.actions.on_saga import check_known_version, current
from sagas.applying import replay as replaying
from sagas.errors import Refused
from sagas.models import Action


def replay(saga_id: UUID | str, apply: bool = False, *, request: ActionRequest) -> ActionResult:
    """Fold the saga's log again; `effects.differences` is [{what, stored, folded}]. Writes only with `apply`.

    Without `apply` nothing is written, no reason is needed and no decision is recorded. Opens its own transaction.
    Raises NotFound, Invalid, Refused (with `apply`: the saga is blocked by an error, or there are no differences).
    """
    saga = saga_row(saga_id)
    check_known_version(saga)
    if not apply:
        return _only_compare(saga.id, request)

    def work(context: ActionContext) -> None:
        now = current(context, saga)
        found = replaying.compare(now.id)
        if not found:
            raise Refused(_("the stored state already matches the event log: there is nothing to rebuild"))
        with previewed(context, routing_key(saga)):
            context.follow(routing_key(saga), replaying.repair(now.id, context.now))
        context.effects |= {"differences": [item._asdict() for item in found], "status_after": saga_row(now.id).status}

    locks = [routing_key(saga)]
    return carry_out(Action.REPLAY, f"saga {saga.id}", request, work, locks=locks, saga_id=saga.id)


def _only_compare(saga_id: UUID, request: ActionRequest) -> ActionResult:
    def work(context: ActionContext) -> None:
        context.effects["differences"] = [item._asdict() for item in replaying.compare(saga_id)]

    dry = ActionRequest(actor=request.actor, door=request.door, reason=request.reason, dry_run=True)
    return carry_out(
        Action.REPLAY, f"saga {saga_id}", dry, work, locks=[routing_key(saga_row(saga_id))], saga_id=saga_id
    )
